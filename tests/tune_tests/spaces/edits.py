"""Changes of the tiny search space file."""

from __future__ import annotations

from pathlib import Path


def edited(space_file: Path, old: str, new: str) -> Path:
    text = space_file.read_text()
    assert old in text
    space_file.write_text(text.replace(old, new, 1))
    return space_file


LR = '"optim.lr" = { low = 1e-5, high = 1e-1, log = true }'

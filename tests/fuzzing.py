"""Damage to a folder of a user's files: every kind that people report, drawn from a seed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "..",
    "/etc/passwd",
    "a\u00a0b",
    "\ud83d",
    "e\u0301",
    "x" * 300,
    "鳥" * 90,
    "<img src=x>",
    "0",
    "1,5",
    [],
    {},
    [[]],
    [0, 0, 0, 0],
    [None, None],
    {"a": None},
)
"""values that stand where another one should"""

ODD_TEXTS = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc3\x28",
    b'"',
    b"\n",
    b",",
    b";",
    b"{",
    b"]",
    b"nan",
    b"\r",
    b"<",
)
"""bytes that are put into a file"""

_NAMES = (
    "._ghost.csv",
    ".DS_Store",
    "notes.json",
    "Thumbs.db",
    "second.csv",
    "README.txt",
    "a\u0301.jpg",
    "\udcff.jpg",
)


def damage(root: Path, rng: random.Random) -> str:
    """Damage a folder in one to three ways; returns what was done, for the message of a failed test."""
    return "; ".join(rng.choice(KINDS)(root, rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _files(root: Path, *suffixes: str) -> list[Path]:
    """List what can be damaged; links that lead nowhere are damage already."""
    found = (path for path in root.rglob("*") if not path.is_symlink() and path.is_file() and os.access(path, os.R_OK))
    return sorted(path for path in found if not suffixes or path.suffix.lower() in suffixes)


def _annotations(root: Path) -> list[Path]:
    return _files(root, ".csv", ".json", ".txt", ".xml", ".mat", ".npz") or _files(root)


def _insert(root: Path, rng: random.Random) -> str:
    path = rng.choice(_annotations(root))
    content = path.read_bytes()
    place, gone, new = rng.randrange(len(content) + 1), rng.choice((0, 0, 1, 5)), rng.choice(ODD_TEXTS)
    path.write_bytes(content[:place] + new + content[place + gone :])
    return f"{new!r} at {place} of {path.name}"


def _cut(root: Path, rng: random.Random) -> str:
    path = rng.choice(_files(root))
    content = path.read_bytes()
    path.write_bytes(content[: rng.choice((0, len(content) // 2, max(0, len(content) - 3)))])
    return f"{path.name} cut"


def _flip(root: Path, rng: random.Random) -> str:
    path = rng.choice(_files(root))
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)
    return f"bytes of {path.name} changed"


def _replace_value(root: Path, rng: random.Random) -> str:
    """Put an odd value into a JSON file, or an odd cell into a table."""
    path = rng.choice(_files(root, ".json", ".csv", ".txt") or _files(root))
    try:
        text = path.read_text()
        content = json.loads(text)
    except (OSError, ValueError):
        return _replace_cell(path, rng)
    place = rng.choice(_places(content) or [[]])
    value = rng.choice(ODD_VALUES)
    if not place:
        content = value
    else:
        parent = content
        for key in place[:-1]:
            parent = parent[key]
        if isinstance(parent, dict) and rng.random() < 0.2:
            parent[rng.choice(("", "x", "keypoints"))] = parent.pop(place[-1])
        else:
            parent[place[-1]] = value
    path.write_text(json.dumps(content))
    return f"{value!r} at {place} of {path.name}"


def _replace_cell(path: Path, rng: random.Random) -> str:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return f"{path.name} left as it is"
    if not lines:
        return f"{path.name} is empty"
    line, value = rng.randrange(len(lines)), str(rng.choice(ODD_VALUES))
    cells = lines[line].split(",")
    cells[rng.randrange(len(cells))] = value
    lines[line] = ",".join(cells)
    path.write_text("\n".join(lines), errors="replace")
    return f"{value!r} in line {line + 1} of {path.name}"


def _places(content: Any, above: tuple[Any, ...] = ()) -> list[list[Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    places = []
    for key, value in items:
        places.append([*above, key])
        places += _places(value, (*above, key))
    return places


def _remove(root: Path, rng: random.Random) -> str:
    path = rng.choice(_files(root))
    path.unlink()
    return f"{path.name} removed"


def _rename(root: Path, rng: random.Random) -> str:
    path = rng.choice(_files(root))
    name = rng.choice(
        (path.name.upper(), path.stem, f"{path.stem}.jpeg", f".{path.name}", f"train_{path.name}", " x.png")
    )
    path.rename(path.with_name(name))
    return f"{path.name} is now {name}"


def _become_other(root: Path, rng: random.Random) -> str:
    """Replace a file by a folder, a link to itself, a link to nothing, or another file's content."""
    path, other = rng.choice(_files(root)), rng.choice(_files(root))
    content = other.read_bytes()
    path.unlink()
    kind = rng.choice(("folder", "circle", "nothing", "copy"))
    if kind == "folder":
        path.mkdir()
    elif kind == "copy":
        path.write_bytes(content)
    else:
        path.symlink_to(path.name if kind == "circle" else "absent")
    return f"{path.name} is a {kind} (of {other.name})"


def _add(root: Path, rng: random.Random) -> str:
    folder = rng.choice([root, *(path for path in sorted(root.rglob("*")) if path.is_dir())])
    name = rng.choice(_NAMES)
    (folder / name).write_bytes(rng.choice((b"", b"\0\5\x16\7", b"{}", b"[]", b"image,w\n", b"\xff\xd8\xff")))
    return f"{name!r} added"


def _forbid(root: Path, rng: random.Random) -> str:
    path = rng.choice(_files(root))
    os.chmod(path, 0)
    return f"{path.name} without permission"


KINDS: tuple[Callable[[Path, random.Random], str], ...] = (
    _insert,
    _insert,
    _cut,
    _flip,
    _replace_value,
    _replace_value,
    _replace_value,
    _remove,
    _rename,
    _become_other,
    _add,
    _forbid,
)
"""the commoner ones several times"""

"""How long a training waits for its checkpoint: copied and written in a thread, or written at once.

    python tests/bench/checkpoint.py [--megabytes 600] [--device cuda] [--folder DIR]

The state is made up: as many float32 values of weights and of both moments. A full PascalVOC training has 2,400 MB.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nmt import checkpoint
from nmt.training.state import copied
from nmt.training.writer import Writer

TENSORS = 300


def made_up(megabytes: int, device: str) -> dict[str, Any]:
    """A state of weights and two moments."""
    size = megabytes * 250_000 // 3 // TENSORS
    parts = [[torch.randn(size, device=device) for _ in range(TENSORS)] for _ in range(3)]
    return dict(zip(("model", "first", "second"), parts, strict=True))


def seconds(work: Callable[[], Any]) -> float:
    """Return the time of a call on the clock, of a device too."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, help="where to write; by default the folder of temporary files")
    args = parser.parse_args()
    state = made_up(args.megabytes, args.device)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, writer = Path(folder) / "checkpoint.pt", Writer()
        for attempt in ("first", "second"):
            at_once = seconds(lambda: checkpoint.save(path, state))

            def begin() -> None:
                content = copied(state, torch.device(args.device))
                writer.start(lambda: checkpoint.save(path, content), lambda: None)

            copying, rest = seconds(begin), seconds(writer.finish)
            print(
                f"{args.megabytes} MB on {args.device}, {attempt}: written at once {at_once:.2f} s; "
                f"copied {copying:.2f} s, then written in a thread {rest:.2f} s"
            )


if __name__ == "__main__":
    main()

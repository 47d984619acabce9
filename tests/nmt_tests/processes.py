"""Processes that train together, started from a server that has torch loaded already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.multiprocessing


def run_together(work: Callable[..., None], *args: Any, count: int) -> None:
    """Runs `work(rank, *args)` in `count` processes and waits for them; raises what the first to fail raised."""
    torch.multiprocessing.start_processes(work, args, nprocs=count, start_method="forkserver")

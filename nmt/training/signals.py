"""Interruption of a training by SIGINT (Ctrl-C) or SIGTERM (a scheduler that ends the job)."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Catch SIGINT and SIGTERM during the block, so that a training can save before it ends.

    The first signal is noted; a second one raises KeyboardInterrupt at once. The earlier handlers return with the end
    of the block.

    Yields:
        A function that returns True once a signal has come. Outside the main thread, as in a Ray Tune actor, Python
        allows no handlers, and the function always returns False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = threading.Event()
    before = {}

    def note(number: int, frame: Any) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

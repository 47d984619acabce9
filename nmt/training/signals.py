"""SIGINT, SIGTERM and SIGHUP (a closed terminal): the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

MESSAGE = "Interrupted. Saving checkpoints (a few seconds); press Ctrl-C again to quit now."

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

log = logging.getLogger(__name__)


@contextlib.contextmanager
def interruptions(on_first: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Catch SIGNALS; yields a function that returns whether one came.

    The first signal logs `MESSAGE` and calls `on_first`, which may raise; the second raises KeyboardInterrupt. Outside
    the main thread (a Tune actor) nothing is caught, because Python delivers signals to the main thread alone; the
    function is then always False.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()
        log.info(MESSAGE)
        on_first()

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

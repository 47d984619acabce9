"""SIGINT, SIGTERM and SIGHUP (a closed terminal): the first asks for an orderly end, the second ends at once.

The notice before a spot machine is taken away (nmt.training.spot) asks for an orderly end too.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from nmt.training import spot

MESSAGE = "Interrupted. Saving checkpoints (a few seconds); press Ctrl-C again to quit now."
TAKEN = "This machine is taken away ({notice}). Saving checkpoints; the same command with --resume continues elsewhere."

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

log = logging.getLogger(__name__)


@contextlib.contextmanager
def interruptions(on_first: Callable[[], None] = lambda: None, *, notices: bool = True) -> Iterator[Callable[[], bool]]:
    """Catch SIGNALS and the spot notice; yields a function that returns whether one came.

    The first signal logs `MESSAGE` and calls `on_first`, which may raise; the second raises KeyboardInterrupt. Outside
    the main thread (a Tune actor) nothing is caught, because Python delivers signals to the main thread alone; the
    function is then always False.

    Args:
        on_first: called once.
        notices: listen for the spot notice too, on a machine that may get one.
    """
    came, said = threading.Event(), list[str]()
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield came.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        notice = said.pop() if said else None
        if came.is_set():
            if notice is None:
                raise KeyboardInterrupt
            return  # the end was asked for already: a notice must not cut the saving short
        came.set()
        log.info(MESSAGE if notice is None else TAKEN.format(notice=notice))
        on_first()

    def taken(notice: str) -> None:
        said.append(notice)
        assert main.ident is not None
        signal.pthread_kill(main.ident, signal.SIGTERM)  # handled by `note`, and wakes a main thread that waits

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        with spot.watched(taken) if notices else contextlib.nullcontext():
            yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

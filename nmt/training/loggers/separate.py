"""A logger in a process of its own, so that nothing it does can end, delay or change a training.

A package that logs to a server may wait for minutes, print, read the terminal, end the process, or wait once more when
the interpreter ends. Here it does so elsewhere. The training hands over its values and goes on. At the end it waits for
the logger for a bounded time, and then kills it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from nmt.training.logger import Guarded, Run, open_logger

CLOSE_SECONDS = 30.0
"""time that a logger has at the end of a training"""
AGAIN_SECONDS = 3.0
"""time that it has once a training of this process has waited in vain"""
MOST_QUEUED = 500
"""values and pictures on their way to the process"""

_in_vain: set[str] = set()
"""loggers that a training of this process has waited for in vain"""


class SeparateLogger:
    """The training's side of a logger in a process of its own.

    Args:
        name: name of the logger.
        run: the training.
        report: called with the first error, in one line; only from the methods of this class.
    """

    def __init__(self, name: str, run: Run, report: Callable[[str], None]) -> None:
        self._name, self._report = name, report
        self._reported = False
        self._errors: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._messages: queue.Queue[bytes | None] = queue.Queue(MOST_QUEUED)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
                start_new_session=True,  # Ctrl-C in the terminal is for the training, which then closes its loggers
            )
        except OSError as error:
            self._tell(error.strerror or str(error))
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        threading.Thread(target=_write, args=(self._messages, self._process.stdin), daemon=True).start()
        self._listener = threading.Thread(target=_listen, args=(self._process.stdout, self._errors), daemon=True)
        self._listener.start()
        self._send((name, run))

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Hand over the metrics of an epoch."""
        self._send(("scalars", (dict(values), epoch)))

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        """Hand over a picture."""
        self._send(("picture", (name, image_HW3, epoch, caption)))

    def close(self) -> None:
        """Wait until the logger has written all, for a bounded time."""
        process = self._process
        if process is None:
            return
        allowed = AGAIN_SECONDS if self._name in _in_vain else CLOSE_SECONDS
        end = time.monotonic() + allowed
        try:
            self._messages.put(None, timeout=allowed)
            process.wait(max(0.0, end - time.monotonic()))
            _in_vain.discard(self._name)
            trouble = f"its process ended with {process.returncode}" if process.returncode else ""
        except (queue.Full, subprocess.TimeoutExpired):
            _in_vain.add(self._name)
            trouble = f"it did not end within {allowed:.0f} s, so its last values may be missing"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the logger, and what it has left running
            process.wait()
        self._listener.join(1.0)
        self._hear()
        if trouble:
            self._tell(trouble)

    def _send(self, message: Any) -> None:
        self._hear()
        if self._process is None:
            return
        try:
            self._messages.put_nowait(pickle.dumps(message))
        except queue.Full:
            self._tell(f"it is {MOST_QUEUED} values behind, so some are left out")

    def _hear(self) -> None:
        while not self._errors.empty():
            self._tell(self._errors.get())

    def _tell(self, reason: str) -> None:
        if not self._reported:
            self._report(reason)
        self._reported = True


def _write(messages: queue.Queue[bytes | None], pipe: IO[bytes]) -> None:
    """Write the messages to the process, until there are no more; then what comes is dropped."""
    with contextlib.suppress(OSError), pipe:  # the process has died, which `close` reports
        while (message := messages.get()) is not None:
            pipe.write(message)
            pipe.flush()
        pipe.write(pickle.dumps(None))
        return
    while messages.get() is not None:
        pass


def _listen(pipe: IO[bytes], errors: queue.SimpleQueue[str]) -> None:
    with pipe:
        for line in pipe:
            errors.put(line.decode(errors="replace").rstrip("\n"))


def main() -> None:
    """Be the logger's process: read its name, the training and its values from standard input; write errors."""
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # packages print, and ask for passwords
        os.dup2(nothing, standard)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(source, messages), daemon=True).start()

    def report(reason: str) -> None:
        with contextlib.suppress(OSError):  # the training has died
            print(reason, file=answers, flush=True)

    first = messages.get()
    if first is None:
        return
    name, run = first
    logger = Guarded(lambda: open_logger(name, run), report)
    while (message := messages.get()) is not None:
        method, arguments = message
        getattr(logger, method)(*arguments)
    logger.close()


def _read(source: IO[bytes], messages: queue.SimpleQueue[Any]) -> None:
    """Read what the training sends. After its last message, or its death, this process ends in a bounded time."""
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        while (message := pickle.load(source)) is not None:
            messages.put(message)
    messages.put(None)
    time.sleep(CLOSE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()

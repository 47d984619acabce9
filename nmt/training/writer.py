"""Write the files of a training in a thread, while the next steps run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Writer:
    """Writes one thing at a time, and tells afterwards.

    A process that dies in the meantime leaves the files as they were before (nmt.io.files.atomic_output).
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._then: Callable[[], None] | None = None
        self._error: BaseException | None = None

    @property
    def pending(self) -> bool:
        """True from `start` to `finish`."""
        return self._then is not None

    @property
    def done(self) -> bool:
        """True once what was started has been written, or has failed, and `finish` would not wait."""
        return self.pending and self._thread is not None and not self._thread.is_alive()

    def start(self, write: Callable[[], None] | None, then: Callable[[], None]) -> None:
        """Begin to write, after what was begun before is finished.

        Args:
            write: called in the thread; None on ranks that write nothing.
            then: called by `finish`.
        """
        self.finish()
        self._then = then
        if write is not None:
            self._thread = threading.Thread(target=self._run, args=(write,), name="checkpoint", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Wait for what was started, raise its error if it failed, and else call its `then`."""
        then, self._then = self._then, None
        self.close()
        error, self._error = self._error, None
        if error is not None:
            raise error
        if then is not None:
            then()

    def close(self) -> None:
        """Wait for what was started, and tell nobody: the training ends with an error of its own."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error

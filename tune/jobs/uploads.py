"""Uploads of the folders of running trainings to the storage of their search, also in the middle of an epoch.

A checkpoint within an epoch is uploaded in a thread, so that no step waits for it and a lost node costs no more than
the time since. At the end of an epoch the training itself uploads its folder, and waits until that is done.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import uuid
from pathlib import Path

from nmt.errors import UserError
from nmt.training.files import BEST, CHECKPOINT, CONFIG, DATA_SET, HOSTS, METRICS, PREVIOUS
from tune.jobs.causes import of_the_storage
from tune.results.storage import Storage

log = logging.getLogger("nmt.jobs")

WITHIN_EPOCH = (CONFIG, DATA_SET, METRICS, HOSTS, BEST, CHECKPOINT)
"""files of a state within an epoch; the checkpoint before it stays at the storage as the last epoch left it"""

_NOT_UPLOADED = "%s: a checkpoint within the epoch was not uploaded (%s)"

Copies = dict[str, Path]
"""name of a file -> a link to its content, which a newer checkpoint does not replace"""


class Uploads:
    """The uploads of one process. One at a time; of states that wait, only the newest is uploaded.

    An upload within an epoch that fails is logged, and the next one repeats it. The one at the end of an epoch raises.

    Args:
        storage: the storage of the run; None: nothing is uploaded.
    """

    def __init__(self, storage: Storage | None) -> None:
        self._storage = storage
        self._changed = threading.Condition()
        self._waiting: dict[str, Copies] = {}
        self._running = False
        self._error: Exception | None = None
        """an error of the thread that is no fault of the storage"""
        self._same: set[str] = set()
        """folders that are at the storage as they are here"""

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()

    def wait(self) -> None:
        """Wait for the upload that is running, and drop those that wait: a newer state follows, or another process."""
        with self._changed:
            for folder in list(self._waiting):
                _remove(self._waiting.pop(folder))
            self._changed.wait_for(lambda: not self._running)

    def later(self, folder: str = "") -> None:
        """Upload the state that has just been saved in a folder, in a thread."""
        if self._storage is None:
            return
        directory = self._storage.directory / folder
        try:
            copies = _copies(directory)
        except OSError as error:
            log.warning(_NOT_UPLOADED, directory, error)
            return
        with self._changed:
            self._same.discard(folder)
            _remove(self._waiting.pop(folder, {}))
            self._waiting[folder] = copies
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, daemon=True).start()

    def put(self, folder: str = "") -> None:
        """Upload a folder as it is now, at the end of an epoch. Raises TemporaryError."""
        if self._storage is None:
            return
        self.wait()
        if self._error is not None:
            raise self._error
        with of_the_storage():
            self._storage.put(folder)
        self._same.add(folder)

    def leave(self, folder: str = "") -> None:
        """Remove the weights of a folder here, once all of it is at the storage. Raises TemporaryError.

        Whoever trains it next fetches them. Otherwise the disk of a node would fill with trials that train elsewhere.
        """
        if self._storage is None:
            return
        if folder not in self._same:
            self.put(folder)
        drop_weights(self._storage.directory / folder)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._running = False
                    self._changed.notify_all()
                    return
                folder = next(iter(self._waiting))
                copies = self._waiting.pop(folder)
            try:
                self._upload(folder, copies)
            finally:
                _remove(copies)

    def _upload(self, folder: str, copies: Copies) -> None:
        assert self._storage is not None, "without a storage nothing waits"
        try:
            self._storage.put_copies(folder, copies)
        except UserError as error:
            log.warning(_NOT_UPLOADED, self._storage.directory / folder, error)
        except Exception as error:
            self._error = error


def drop_weights(directory: Path) -> None:
    """Remove the weights of a training from its folder."""
    for name in (CHECKPOINT, PREVIOUS, BEST):
        (directory / name).unlink(missing_ok=True)


def _copies(directory: Path) -> Copies:
    """Link the files of the current state, which the training may replace while they are uploaded.

    A process that is killed leaves the links behind; the next one removes them (nmt.io.files.remove_partials).
    """
    copies = {name: directory / f".{name}.{uuid.uuid4().hex[:8]}.partial" for name in WITHIN_EPOCH}
    copies = {name: link for name, link in copies.items() if (directory / name).is_file()}
    try:
        for name, link in copies.items():
            try:
                os.link(directory / name, link)
            except OSError:  # a file system without hard links
                shutil.copyfile(directory / name, link)
    except OSError:
        _remove(copies)
        raise
    return copies


def _remove(copies: Copies) -> None:
    for link in copies.values():
        with contextlib.suppress(OSError):  # the next process that trains here removes it
            link.unlink(missing_ok=True)

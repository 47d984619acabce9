"""Read, download and complete the folders of a search's trials, here and at the storage."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nmt.config import Config, comparable, load_config, to_dict, to_flat
from nmt.errors import UserError
from nmt.io.files import write_json
from nmt.settings import differences
from nmt.training.files import BEST, CONFIG, METRICS
from nmt.training.history import best_epoch, read_metrics
from tune.results import tensorboard
from tune.results.backup import back_up
from tune.results.layout import BACKUP, ERROR, MIRROR, STUDY, trial_folder, trial_id
from tune.results.storage import Storage, no_weights

LAG_SECONDS, LAG_POLL_SECONDS = 45.0, 0.2
"""how long to wait for a folder that is behind its trial's report, and between two looks"""


class TrialFolders:
    """The folders of one search's trials.

    Args:
        directory: of the search.
        home: the storage of the search; None if `directory` is its only place.
    """

    def __init__(self, directory: Path, home: Storage | None) -> None:
        self.directory, self.home = directory, home
        self._mirror = Storage(home.address, directory / MIRROR) if home is not None else None
        self._checked: set[int] = set()
        self.error: UserError | None = None
        """the error here that ended the search (full disk, storage not reached); Ray itself only keeps its text"""

    def of(self, number: int) -> Path:
        """Return the directory of a trial."""
        return self.directory / trial_folder(number)

    def claim(self, number: int, config: Config) -> None:
        """Check that the folder of a trial is of this configuration; write it there if none is. Once per trial.

        What lies in the folder will be reported as the result of the configuration.

        Raises:
            UserError: the folder was trained with another configuration.
        """
        path = self.of(number) / CONFIG
        if number in self._checked:
            return
        with self.noted():
            if path.is_file():
                _check_config(path, path.parent, number, config)
            else:
                # The storage may hold what is left of a search that was removed in part.
                if self._mirror is not None:
                    self._mirror.fetch(trial_folder(number), wanted=lambda name: name == CONFIG)
                    there = self._mirror.directory / trial_folder(number) / CONFIG
                    if there.is_file():
                        _check_config(there, f"{self._mirror.address}/{trial_folder(number)}", number, config)
                write_json(path, to_dict(config))
        self._checked.add(number)

    def back_up(self) -> None:
        """Copy the study, for a resume after it is lost."""
        with self.noted():
            back_up(self.directory)

    def history(self, number: int, *, epoch: int = 0) -> list[dict[str, Any]]:
        """Return the metrics of every epoch that a trial has completed, also while it trains.

        Args:
            epoch: an epoch that the trial is known to have completed. If the folder is behind, as NFS may be for half a
                minute, it is read again for up to LAG_SECONDS.
        """
        deadline = time.monotonic() + LAG_SECONDS
        while True:
            history = self._read(number)
            if len(history) >= epoch or time.monotonic() > deadline:
                return history
            time.sleep(LAG_POLL_SECONDS)

    def trained(self, number: int, *, epoch: int, last: int) -> list[dict[str, Any]]:
        """Return `history`, without the epoch `last` if the best weights are lost.

        The trial's job then comes again and restores them (nmt.training.state.begin).
        """
        history = self.history(number, epoch=epoch)
        lost = (
            bool(history) and history[-1]["epoch"] >= last and bool(best_epoch(history)) and not self.has_best(number)
        )
        return history[:-1] if lost else history

    def _read(self, number: int) -> list[dict[str, Any]]:
        """Read the metrics of a trial once.

        With a storage, they are downloaded into a separate mirror: a process on this node may be writing the next epoch
        into the folder itself.
        """
        if self._mirror is None:
            # NFS may cache for half a minute that a file does not exist. Listing the folder refreshes it.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.listdir(self.of(number))
            with self.noted():
                return read_metrics(self.of(number))
        with self.noted():
            self._mirror.fetch(trial_folder(number), wanted=lambda name: name == METRICS)
            return read_metrics(self._mirror.directory / trial_folder(number))

    def has_best(self, number: int) -> bool:
        """True if the trial's best weights are in its folder, at the storage if there is one."""
        if self.home is None:
            return (self.of(number) / BEST).is_file()
        with self.noted():
            return self.home.holds(BEST, trial_folder(number))

    def fetch(self, number: int) -> None:
        """Update the folder here from the storage, without weights. No process may be writing in it."""
        if self.home is not None:
            with self.noted():
                self.home.fetch(trial_folder(number), wanted=no_weights)

    def put(self, folder: str = "", pattern: str = "*") -> None:
        """Upload files of the search's folder, or of a folder below it, to the storage."""
        if self.home is not None:
            with self.noted():
                self.home.put(folder, pattern)

    def write_start(self, number: int, values: Mapping[str, Any]) -> None:
        """Add the trial to TensorBoard's HParams tab, with its searched values."""
        self.of(number).mkdir(parents=True, exist_ok=True)
        tensorboard.write_start(self.of(number), trial_id(number), values)
        self.put(trial_folder(number), f"{tensorboard.FIRST}*")

    def write_end(self, number: int, *, success: bool, best: Mapping[str, Any]) -> None:
        """Mark the trial as ended in TensorBoard's HParams tab, with its best value."""
        tensorboard.write_end(self.of(number), success=success, best=best)
        self.put(trial_folder(number), f"{tensorboard.LAST}*")

    def write_error(self, number: int, text: str) -> None:
        """Keep the traceback of a trial's last error in its folder."""
        self.of(number).mkdir(parents=True, exist_ok=True)
        (self.of(number) / ERROR).write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Remember a UserError raised in the block, which ends the search."""
        try:
            yield
        except UserError as error:
            self.error = error
            raise


def _check_config(path: Path, place: Path | str, number: int, config: Config) -> None:
    """Raise UserError if the file is of another configuration. `place` is the folder that it shows."""
    if different := differences(to_flat(comparable(load_config(path))), to_flat(comparable(config))):
        raise UserError(
            f"{path}: trial {trial_id(number)} of the study has another configuration: {different}; restore "
            f"{STUDY} from {BACKUP}, or move {place} away to train it again"
        )

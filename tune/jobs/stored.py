"""A trial's files at the storage of its search, as its jobs fetch them (tune.jobs.uploads uploads them).

Whatever fails there only interrupts the trial (tune.jobs.causes). A checkpoint that is damaged there is left out, and
the training continues from what is whole (nmt.training.state.begin).
"""

from __future__ import annotations

import logging
from pathlib import Path

from nmt.config import Config, comparable, load_config, to_flat
from nmt.errors import TemporaryError, UserError
from nmt.io.files import file_lock
from nmt.settings import differences
from nmt.training.files import BEST, CHECKPOINT, CONFIG, PREVIOUS
from tune.jobs.causes import of_the_storage
from tune.results.layout import FETCH_LOCK
from tune.results.storage import Storage, no_weights

log = logging.getLogger("nmt.jobs")


def take_over(storage: Storage | None, folder: str, config: Config, *, first: bool = True) -> None:
    """Bring the trial's folder here, for a process that trains it from now on. Raises TemporaryError.

    What is here of another configuration is removed: an earlier search has left it on this node.

    Args:
        config: configuration of the trial.
        first: False for a process that will not upload the folder: a worker of another rank than 0.
    """
    if storage is None:
        return
    with of_the_storage():
        if first:
            _remove_others(storage.directory / folder, config)
        try:
            (storage.take_over if first else storage.fetch)(folder)
        except TemporaryError:
            raise
        except UserError:
            _fetch_whole(storage, folder)


def _remove_others(directory: Path, config: Config) -> None:
    """Remove the files of a folder whose config.json is of another configuration."""
    try:
        there = load_config(directory / CONFIG)
    except UserError:  # none there, or a damaged one, which the storage replaces
        return
    if not differences(to_flat(comparable(there)), to_flat(comparable(config))):
        return
    with file_lock(directory / FETCH_LOCK):
        for path in directory.iterdir():
            if path.is_file() and path.name != FETCH_LOCK:
                path.unlink()


def _fetch_whole(storage: Storage, folder: str) -> None:
    """Fetch the files of a folder that are whole at the storage; remove the others here."""
    storage.fetch(folder, wanted=no_weights)
    for weights in (CHECKPOINT, PREVIOUS, BEST):
        try:
            storage.fetch(folder, wanted=lambda name, weights=weights: name == weights)  # type: ignore[misc]
        except TemporaryError:
            raise
        except UserError:
            log.warning("%s: %s is damaged at the storage", storage.directory / folder, weights)
            (storage.directory / folder / weights).unlink(missing_ok=True)

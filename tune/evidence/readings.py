"""Count the readings of the test split: by --evaluate, and by the end of a confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nmt.data.store.readings import add_reading
from nmt.io.file_record import record
from nmt.training.files import BEST
from tune.results.layout import FINAL, RUNS, run_folder
from tune.results.log import log


def note_reading(data: Path, name: str, folders: Sequence[Path]) -> None:
    """Count that the trainings of one configuration are read on test, and print all readings so far.

    Args:
        data: folder of the data set on this machine.
        name: of the configuration.
        folders: of its trainings; nothing is counted if none has weights.
    """
    weights = [record(folder / BEST).sha256 for folder in folders if (folder / BEST).is_file()]
    if weights:
        log.info(add_reading(data, _result_name(folders[0].resolve(), name), weights))


def note_evaluation(data: Path, checkpoint: Path) -> str:
    """Count that a checkpoint was evaluated on test; return the sentence with all readings."""
    directory = checkpoint.resolve().parent
    return add_reading(data, _result_name(directory, directory.name), [record(checkpoint).sha256])


def _result_name(directory: Path, name: str) -> str:
    """Return the name of a result: demo-train, demo/007 of a search, demo/007 (train+val) of its final trainings."""
    folder = run_folder(directory)
    final = directory.parent.name == RUNS and directory.parent.parent.name == FINAL
    return (name if folder == directory else f"{folder.name}/{name}") + (" (train+val)" if final else "")

"""Keep a copy of the study of a search beside it, from which --resume restores a lost or damaged one."""

from __future__ import annotations

from pathlib import Path

from nmt.io.database import copy_database
from nmt.io.files import atomic_output
from tune.results.layout import BACKUP, STUDY


def back_up(directory: Path) -> None:
    """Copy the study of the search in `directory`. An earlier copy is kept until the new one is whole and checked.

    Raises:
        UserError: the study is missing, damaged or held by another program, or the disk is full.
    """
    with atomic_output(directory / BACKUP) as partial:
        copy_database(directory / STUDY, partial)

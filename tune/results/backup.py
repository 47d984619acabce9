"""Keep a copy of the study of a search beside it, from which --resume restores a lost or damaged one."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from nmt.io.database import copy_database, database_error, open_database
from nmt.io.files import atomic_output
from tune.results.layout import BACKUP, STUDY


def back_up(directory: Path) -> None:
    """Copy the study of the search in `directory`. An earlier copy is kept until the new one is whole and checked.

    Raises:
        UserError: the study is missing, damaged or held by another program, or the disk is full.
    """
    study = directory / STUDY
    with atomic_output(directory / BACKUP) as partial:
        copy_database(study, partial)
        try:
            with contextlib.closing(open_database(partial)) as copy:  # an emptied file is a whole database too
                copy.execute("SELECT COUNT(*) FROM trials JOIN studies USING (study_id)")
        except sqlite3.Error as error:
            raise database_error(study, error) from error

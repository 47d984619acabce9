"""The study of a search that is there, for reading. Not in tune.study, which does not know where a search keeps it."""

from __future__ import annotations

from pathlib import Path

import optuna

from nmt.errors import UserError
from tune.results.layout import STUDY


def open_study(directory: str | Path) -> optuna.Study:
    """Open the Optuna study of the search in `directory` (results/NAME), to read it with Optuna's own functions.

    Raises:
        UserError: no search has run there.
    """
    path = Path(directory) / STUDY
    if not path.is_file():  # Optuna would make an empty one
        raise UserError(f"{path} does not exist: no search has run there")
    return optuna.load_study(study_name=None, storage=f"sqlite:///{path}")

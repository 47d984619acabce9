"""Ray's view of the study: which trial comes next.

Our own instead of Ray's OptunaSearch, which tells stopped trials as complete at a low epoch and leaves a trial whose
value is not finite running for ever. What becomes of a trial is told by `tune.recorder`, which also sees its error.
"""

from __future__ import annotations

from typing import Any

import ray.tune.search

from nmt.config import to_dict
from tune.study import SearchStudy


def trial_id(number: int) -> str:
    """The short name of a trial, stable over restarts: that of its directory and its row in the table."""
    return f"{number:03d}"


class StudySearcher(ray.tune.search.Searcher):
    """Hands out the study's trials as {"number": 7, "configuration": {..}}."""

    def __init__(self, study: SearchStudy, *, metric: str) -> None:
        super().__init__(metric=metric, mode="max")
        self._study = study

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # FINISHED is a string
        given = self._study.next()
        if given is None:
            return self.FINISHED
        number, params = given
        return {"number": number, "configuration": to_dict(self._study.space.configuration(params))}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: Ray calls this without the error, and with a value it takes for final."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is in its file."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

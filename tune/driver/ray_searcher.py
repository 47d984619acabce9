"""Ray's view of the study: which job comes next.

Our own instead of Ray's OptunaSearch, which tells stopped trials as complete at a low epoch and leaves a trial whose
value is not finite running for ever. What becomes of a job is told by `tune.driver.recorder`, which also sees its
error.

What Ray Tune calls a trial is a *job* here; a trial of the study may take several (see tune.study.halving).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray.tune.search

from tune.jobs.protocol import packed_config
from tune.study.halving import Pause
from tune.study.study import SearchStudy


class StudySearcher(ray.tune.search.Searcher):
    """Hands out the study's jobs as {"number": 7, "configuration": {..}, "until": 3}.

    Ray asks again after None at its next step. With nothing under way it would ask once a second and do nothing else;
    that cannot be, for the study never says WAIT then.
    """

    def __init__(
        self, study: SearchStudy, *, metric: str, out_of_time: Callable[[], bool], stopping: Callable[[], bool]
    ) -> None:
        """`stopping` says whether the search was asked to stop: no further job may start."""
        super().__init__(metric=metric, mode="max")
        self._study, self._out_of_time, self._stopping = study, out_of_time, stopping
        self.finished = False
        """whether every job has been handed out and has ended"""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        if self._stopping():
            return self.FINISHED
        space = self._study.space
        size = space.resources.packed if space.base.data.mode == "features" else 1  # of two fidelities, the low one
        jobs = self._study.next_pack(size, out_of_time=self._out_of_time())
        if isinstance(jobs, Pause):
            self.finished = jobs is Pause.FINISHED
            return self.FINISHED if self.finished else None
        return packed_config([job.to_dict() for job in jobs])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: Ray calls this without the error, and with a value it takes for final."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is in its file."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

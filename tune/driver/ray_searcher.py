"""The study as a Ray Tune searcher: it returns the next job.

It replaces Ray's OptunaSearch. That one records a stopped trial as complete at a low epoch, and leaves a trial whose
value is not finite running forever. Here `tune.driver.recorder` records how a job ended, because it also sees the
error.

What Ray Tune calls a trial is a *job* here. A trial of the study may take several jobs (see tune.study.halving).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray.tune.search

from tune.jobs.protocol import packed_config
from tune.spaces.packs import pack_size
from tune.study.halving import Pause
from tune.study.study import SearchStudy


class StudySearcher(ray.tune.search.Searcher):
    """Return the study's jobs as {"number": 7, "configuration": {..}, "until": 3}.

    After None, Ray asks again at its next step. The study answers WAIT only while a job runs, so Ray never polls an
    idle search.
    """

    def __init__(
        self, study: SearchStudy, *, metric: str, out_of_time: Callable[[], bool], stopping: Callable[[], bool]
    ) -> None:
        """Connect the searcher to the study.

        Args:
            out_of_time: True once the time budget is spent.
            stopping: True once the search was asked to stop: no further job may start.
        """
        super().__init__(metric=metric, mode="max")
        self._study, self._out_of_time, self._stopping = study, out_of_time, stopping
        self._pack_size = pack_size(study.space)
        self.finished = False
        """True once every job of the study was run"""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        if self._stopping():
            return self.FINISHED
        jobs = self._study.next_pack(self._pack_size, out_of_time=self._out_of_time())
        if isinstance(jobs, Pause):
            self.finished = jobs is Pause.FINISHED
            return self.FINISHED if self.finished else None
        return packed_config([job.to_dict() for job in jobs])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: Ray calls this without the error, and with a value it takes for final."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is in its own file."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is in its own file."""

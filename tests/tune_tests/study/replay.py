"""Searches replayed without processes or a study."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from tune.study.halving import Ladder, NextJob, Pause, Standing, next_job

LADDER = Ladder(epochs=9, grace=1, factor=3)


class Replay:
    """A search without processes: jobs are taken by `at_once` workers and end in the order `choose` says."""

    def __init__(self, value: Callable[[int, int], float], *, ladder: Ladder = LADDER, trials: int = 20) -> None:
        self.value, self.ladder, self.trials = value, ladder, trials
        self.standings: list[Standing] = []
        self.jobs: list[NextJob] = []

    def decide(self) -> NextJob | Pause:
        return next_job(self.standings, self.ladder, may_start=len(self.standings) < self.trials)

    def start(self, job: NextJob) -> None:
        self.jobs.append(job)
        self.check_promotion(job)
        if job.number == len(self.standings):
            self.standings.append(Standing(number=job.number, values={}, until=job.until, running=True))
        else:
            self.standings[job.number] = replace(self.standings[job.number], until=job.until, running=True)

    def check_promotion(self, job: NextJob) -> None:
        """Whoever is promoted while others run is among the best 1/`factor` of its rung, counted in other words."""
        if job.number == len(self.standings) or not any(t.running for t in self.standings):
            return
        trial, bracket = self.standings[job.number], self.ladder.bracket
        peers = [t for t in self.standings if not t.number or bracket(t.number) == bracket(job.number)]
        rung = [t for t in peers if trial.until in t.values]
        ahead = sum(not t.failed and t.values[trial.until] > trial.values[trial.until] for t in rung)
        assert (ahead + 1) * self.ladder.factor <= len(rung)

    def end(self, number: int) -> None:
        trial = self.standings[number]
        values = {epoch: self.value(number, epoch) for epoch in range(1, trial.until + 1)}
        broken = next((e for e, v in values.items() if not math.isfinite(v)), None)
        if broken is not None:
            kept = {e: v for e, v in values.items() if e < broken}
            self.standings[number] = replace(trial, values=kept, running=False, ended=True, failed=True)
        else:
            self.standings[number] = replace(
                trial, values=values, running=False, ended=trial.until == self.ladder.epochs
            )

    def run(self, at_once: int = 1, choose: Callable[[list[int]], int] = min) -> list[NextJob]:
        while True:
            running = [t.number for t in self.standings if t.running]
            job = self.decide() if len(running) < at_once else Pause.WAIT
            if job is Pause.FINISHED:
                return self.jobs
            if isinstance(job, NextJob):
                self.start(job)
            else:
                assert running, "told to wait for nothing"
                self.end(choose(running))

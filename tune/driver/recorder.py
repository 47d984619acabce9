"""Writes down what happens in a search, as it happens: the study, TensorBoard, summary.json and a line to the user.

A Ray Tune callback, for callbacks alone see every result, the last one and the error of a trial included. All it knows
it reads back from the search's directory, so that it goes on after any interruption.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray.cloudpickle
import ray.exceptions
import ray.tune
from optuna.trial import FrozenTrial, TrialState

from nmt.config import to_dict
from nmt.errors import UserError
from nmt.training.history import FIXED_METRIC, METRIC, best_epoch, decoding_of, read_metrics
from tune.driver.watchdog import Watchdog
from tune.jobs.protocol import FAILURE, INTERRUPTED, NOTE, members
from tune.results import tensorboard
from tune.results.layout import trial_id
from tune.results.storage import DATABASE, Storage, no_weights
from tune.results.summary import Summary, TrialRecord
from tune.study.budget import out_of_time
from tune.study.study import ORIGIN, SearchStudy

MAX_REASON = 200
LINE_SECONDS = 20.0
"""A line about a running trial at most this often, beside one at each trial's end."""
PUT_SECONDS = 10.0
"""The study is put at the storage at most this often, beside at each trial's beginning and end."""


class Recorder(ray.tune.Callback):
    """Records the trials of one search in `directory`.

    Args:
        data: the data set, for the report.
        home: where the search lives, when that is not `directory`.
        earlier_seconds: wall-clock time of the runs this one resumes.
        gate: where the workers of a trial report, for trials of several.
        health: knows why a job was killed, and hears how each ended.
        say: takes each line for the user.
    """

    def __init__(
        self,
        study: SearchStudy,
        directory: Path,
        *,
        data: str,
        home: Storage | None,
        earlier_seconds: float,
        gate: Any,
        health: Watchdog,
        say: Callable[[str], None],
    ) -> None:
        self.directory, self.health = directory, health
        self._study, self._data, self._home, self._gate, self._say = study, data, home, gate, say
        self._started = time.monotonic() - earlier_seconds
        self._said = self._put = time.monotonic()
        self._trained = {t.number: self._seconds(t.number) for t in study.trials()}
        """seconds of each trial"""
        self._last: dict[int, dict[str, Any]] = {}
        """of each trial under way, its last result"""
        self.error: UserError | None = None
        """what ended the search here (a full disk, a storage that stays away); Ray passes on its text alone"""

    def out_of_time(self) -> bool:
        """Whether the hours or the GPU-hours of the search are spent."""
        resources = self._study.space.resources
        gpus = resources.gpus * resources.workers
        return out_of_time(
            self._study.space.search,
            seconds=time.monotonic() - self._started,
            gpu_seconds=gpus * sum(self._trained.values()),
        )

    def catch_up(self) -> None:
        """Tell the study what the trials' directories know and it does not: a run may have died in between."""
        for number in [t.number for t in self._study.trials() if not t.state.is_finished()]:
            history = self._report_history(number)
            if history and history[-1]["epoch"] >= self._study.ladder.epochs:
                self._finish(number, TrialState.COMPLETE)

    def _report_history(self, number: int) -> list[dict[str, Any]]:
        """Epochs of the trial's directory; those go to the study whose report died with its process."""
        history = read_metrics(self._trial_directory(number))
        known = self._study.trial(number).intermediate_values
        for metrics in history:
            if metrics["epoch"] not in known:
                self._study.report(number, metrics["epoch"], metrics[METRIC])
        return history

    def end_waiting(self) -> None:
        """The search is over: who still waits at a rung will not be promoted."""
        for number in [t.number for t in self._study.trials() if not t.state.is_finished()]:
            self._finish(number, TrialState.PRUNED, quiet=True)

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        for job in members(trial.config):
            self._write_session(job["number"], self._study.trial(job["number"]).params)
        # Before the trial trains: a search that goes on elsewhere must know every trial that has a checkpoint.
        self._put_home(pattern=DATABASE)

    def on_trial_result(
        self, iteration: int, trials: Sequence[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = result.get("number", trial.config["number"])
        self._last[number] = result
        if FAILURE in result or INTERRUPTED in result:
            return
        self._trained[number] = result["seconds"]
        self._study.report(number, result["epoch"], result[METRIC])
        if time.monotonic() - self._put > PUT_SECONDS:
            self._put_home(pattern=DATABASE)
        if NOTE in result:
            self._line(f"{trial_id(number)}  {result[NOTE]}")
        if time.monotonic() - self._said > LINE_SECONDS:
            epochs = self._study.space.base.train.epochs
            self._line(f"{trial_id(number)}  epoch {result['epoch']} of {epochs}  {100 * result[METRIC]:.1f} %")

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        for job in members(trial.config):
            # Of a pack that ran out of time, some have nothing to tell yet.
            nothing = {INTERRUPTED: True} if "pack" in trial.config else {}
            self._end_job(job, self._last.pop(job["number"], nothing))

    def _end_job(self, job: Mapping[str, Any], result: dict[str, Any]) -> None:
        """What became of a trial's job, by the last that it reported."""
        number = job["number"]
        if INTERRUPTED in result:
            self._study.end_job(number)
        elif FAILURE in result or not math.isfinite(result.get(METRIC, math.nan)):
            self._finish(number, TrialState.FAIL, reason=result.get(FAILURE, "it reported no accuracy"))
        elif result["epoch"] >= self._study.ladder.epochs:
            self._finish(number, TrialState.COMPLETE)
        elif result["epoch"] >= job["until"]:
            self._wait(number, result)
        else:  # a scheduler stopped it
            self._finish(number, TrialState.PRUNED)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        hung = self.health.hung.get(trial.config["number"])
        for job in members(trial.config):
            number = job["number"]
            self._last.pop(number, None)
            if self._gate is not None:
                ray.get(self._gate.close.remote(trial_id(number)))
            self._finish(number, TrialState.FAIL, reason=hung or self._keep_error(trial, number))

    def on_trial_recover(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        for job in members(trial.config):
            number = job["number"]
            self._line(f"{trial_id(number)}  {self._keep_error(trial, number)}; going on from its checkpoint")

    def summary(self, *, finished: bool = False) -> Summary:
        """The search as it stands; a trial that waits at a rung counts as PRUNED meanwhile."""
        space = self._study.space
        idle = {s.number for s in self._study.standings() if s.ended or (not s.running and s.epoch >= s.until)}
        plain = space.to_dict()
        return Summary(
            name=space.name,
            description=space.description,
            data=self._data,
            space={p.key: p.describe() for p in (*space.parameters, *space.sweep)},
            search=plain["search"],
            resources=plain["resources"],
            epochs=space.base.train.epochs,
            seconds=round(time.monotonic() - self._started, 1),
            trials=tuple(self._record(t) for t in self._study.trials() if t.number in idle),
            finished=finished,
        )

    def _wait(self, number: int, result: dict[str, Any]) -> None:
        """The trial's job has ended at its rung."""
        self._study.end_job(number)
        self.health.ended(None)
        self._fetch(number)
        self.save()
        epochs = self._study.space.base.train.epochs
        self._line(f"{trial_id(number)}  waits at {result['epoch']} of {epochs} epochs  {100 * result[METRIC]:.1f} %")

    def save(self, *, finished: bool = False) -> Summary:
        """Write the summary, here and at the storage."""
        summary = self.summary(finished=finished)
        with self._noted():
            summary.save(self.directory)
        self._put_home()
        return summary

    def _finish(self, number: int, state: TrialState, reason: str | None = None, *, quiet: bool = False) -> None:
        """The trial's end, in all places."""
        self._fetch(number)
        self._report_history(number)
        with self._noted():
            best = self._write_end(number, state, reason)
        self._put_home(f"trials/{trial_id(number)}", f"{tensorboard.LAST}*")
        self.health.ended(reason)
        if not quiet:
            self._line(self._end_line(number, state, reason, best, self.save()))

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Keeps the error that ends the search."""
        try:
            yield
        except UserError as error:
            self.error = error
            raise

    def _fetch(self, number: int) -> None:
        """What the trial has put at the storage, for the report."""
        if self._home is not None:
            with self._noted():
                self._home.fetch(f"trials/{trial_id(number)}", wanted=no_weights)

    def _put_home(self, folder: str = "", pattern: str = "*") -> None:
        self._put = time.monotonic()
        if self._home is not None:
            with self._noted():
                self._home.put(folder, pattern)

    def _write_end(self, number: int, state: TrialState, reason: str | None) -> dict[str, Any]:
        history = read_metrics(self._trial_directory(number))
        best = best_epoch(history)
        decode = {f"decode.{name}": value for name, value in decoding_of(best).items()}
        seconds = {"seconds": history[-1]["seconds"]} if history else {}
        swept = {p.key: decode[p.key] for p in self._study.space.sweep if p.key in decode}
        self._write_session(number, self._study.trial(number).params | swept)
        tensorboard.write_end(self._trial_directory(number), success=state != TrialState.FAIL, best=best)
        # The study comes late: a trial it still holds as running is ended again, all of this included, by --resume.
        others = self._objectives(number, best)[1:] if state == TrialState.COMPLETE else []
        self._study.finish(number, state, decode | seconds | ({"reason": reason} if reason else {}), others=others)
        return best

    def _objectives(self, number: int, best: Mapping[str, Any]) -> list[float]:
        """The trial's value of each objective, at its best epoch."""
        from nmt.model.matcher import decoder_parameters

        config, names = self._study.configuration(number), self._study.space.search.objectives
        return [float(decoder_parameters(config.model) if n == "decoder_parameters" else best[n]) for n in names]

    def _end_line(
        self, number: int, state: TrialState, reason: str | None, best: dict[str, Any], summary: Summary
    ) -> str:
        epochs = len(self._study.trial(number).intermediate_values)
        parts = [f"{trial_id(number)}  {state.name:<8}  {epochs} of {self._study.space.base.train.epochs} epochs"]
        parts += [f"{100 * best[METRIC]:.1f} %"] if best else []
        parts += [reason] if reason else []
        if summary.best is not None and summary.best.accuracy is not None:
            parts.append(f"best so far {100 * summary.best.accuracy:.1f} % ({summary.best.id})")
        return "  ".join(parts)

    def _write_session(self, number: int, values: dict[str, Any]) -> None:
        directory = self._trial_directory(number)
        directory.mkdir(parents=True, exist_ok=True)
        tensorboard.write_start(directory, trial_id(number), values)
        self._put_home(f"trials/{trial_id(number)}", f"{tensorboard.FIRST}*")

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        space, directory = self._study.space, self._trial_directory(trial.number)
        history = read_metrics(directory)
        params = self._study.params(trial)
        config = space.configuration(params)
        checkpoint, best = directory / "best.pt", best_epoch(history)
        there = checkpoint.is_file() or (self._home is not None and bool(history))
        return TrialRecord(
            id=trial_id(trial.number),
            state=trial.state.name if trial.state.is_finished() else TrialState.PRUNED.name,
            searched={key: list(value) if isinstance(value, tuple) else value for key, value in params.items()},
            configuration=to_dict(config),
            best=best,
            last=history[-1] if history else {},
            accuracy_fixed_decode=max((m[FIXED_METRIC] for m in history), default=None),
            epochs=len(history),
            seconds=round(history[-1]["seconds"], 2) if history else 0.0,
            seed=config.train.seed,
            checkpoint=str(checkpoint.relative_to(self.directory)) if there else None,
            reason=trial.user_attrs.get("reason"),
            objectives=dict(zip(space.search.objectives, self._objectives(trial.number, best), strict=True))
            if best
            else {},
            origin=trial.user_attrs.get(ORIGIN),
        )

    def _keep_error(self, trial: Any, number: int) -> str:
        """Keep the trial's traceback in its directory, error.txt; returns the reason in a line."""
        directory = self._trial_directory(number)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "error.txt").write_text(Path(trial.error_file).read_text())
        error = ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        if isinstance(error, ray.exceptions.RayActorError):
            return "its process died (killed, out of memory, or crashed)"
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        return "".join(traceback.format_exception_only(cause)).strip().splitlines()[-1].strip()[:MAX_REASON]

    def _seconds(self, number: int) -> float:
        history = read_metrics(self._trial_directory(number))
        return float(history[-1]["seconds"]) if history else 0.0

    def _trial_directory(self, number: int) -> Path:
        return self.directory / "trials" / trial_id(number)

    def _line(self, text: str) -> None:
        self._said = time.monotonic()
        self._say(f"{time.monotonic() - self._started:7.1f} s  {text}")

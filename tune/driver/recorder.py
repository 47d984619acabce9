"""Update the study and the summary from the trials' folders, as the jobs of a search report and end.

A Ray Tune callback: only callbacks see every result, including the last one and the error of a trial. A result only
names the folder to read (tune.jobs.protocol); the folder holds what was trained. So a lost result loses nothing: the
next reading finds all epochs, in this run or in one that resumes the search.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray.cloudpickle
import ray.tune
from optuna.trial import TrialState

from nmt.data.store.ready import ReadyData
from nmt.errors import one_line
from nmt.training.history import METRIC, best_epoch, decoding_of, read_metrics
from tune.driver.kept import settle, unknown_end
from tune.driver.lines import Lines
from tune.driver.retries import Retries
from tune.driver.saving import Saving
from tune.driver.summarize import objectives
from tune.driver.trial_folders import TrialFolders
from tune.driver.watchdog import Watchdog
from tune.jobs.causes import Cause, cause_of
from tune.jobs.protocol import FAILURE, INTERRUPTED, NOTE, members
from tune.jobs.reservations import release, training_of
from tune.results.layout import trial_id
from tune.results.summary import Summary
from tune.results.tensorboard import shown as shown_in_tensorboard
from tune.study.budget import out_of_time
from tune.study.study import SearchStudy


class Recorder(ray.tune.Callback):
    """Record the trials of one search.

    Args:
        data: the data set, for the report.
        lines: prints the lines for the user.
        control: the actor that trials ask if they are to stop (tune.jobs.control).
        health: the watchdog, which is told of every epoch and every end, and knows why a job was killed.
    """

    def __init__(
        self,
        study: SearchStudy,
        folders: TrialFolders,
        *,
        data: ReadyData,
        lines: Lines,
        control: Any,
        health: Watchdog,
    ) -> None:
        self.folders, self.health, self.retries = folders, health, Retries()
        self._study, self._lines, self._control = study, lines, control
        self._saving = Saving(study, folders, data=data, lines=lines)
        self._seconds: dict[int, float] = {}
        """training time of each trial"""
        self._events: dict[int, Mapping[str, Any]] = {}
        """last event of the running job of each trial, which shows how the job ended"""
        self._begun: set[int] = set()
        """trials whose job has begun to train"""
        for trial in study.trials():
            if folders.of(trial.number).is_dir():
                folders.claim(trial.number, study.configuration(trial.number))
            self._note_seconds(trial.number, history := read_metrics(folders.of(trial.number)))
            self.health.know(trial.number, history)
            self._lines.know(trial.number, history, trial.state.name)

    def out_of_time(self) -> bool:
        """True once the hours or the GPU-hours of the search are spent."""
        resources = self._study.space.resources
        gpus = resources.gpus * resources.workers
        return out_of_time(
            self._study.space.search,
            seconds=self._lines.seconds(),
            gpu_seconds=gpus * sum(self._seconds.values()),
        )

    def sync(self, number: int, *, epoch: int = 0) -> list[dict[str, Any]]:
        """Update the study from a trial's folder; return the metrics of its epochs.

        May be called at any time: reading the same folder again changes nothing, and a trial that has ended stays as it
        is. A trial whose folder holds the last epoch and best.pt is complete, even if its job fails afterwards.

        Args:
            epoch: an epoch that the trial has reported; a folder that is behind it is waited for.
        """
        history = self.folders.trained(number, epoch=epoch, last=self._study.ladder.epochs)
        trial = self._study.trial(number)
        if trial.state.is_finished():
            return history
        for metrics in history:
            if metrics["epoch"] not in trial.intermediate_values:
                self._study.report(number, metrics["epoch"], metrics[METRIC])
        self._note_seconds(number, history)
        if history and history[-1]["epoch"] >= self._study.ladder.epochs and best_epoch(history):
            self._finish(number, TrialState.COMPLETE)
        return history

    def sync_unfinished(self) -> None:
        """`sync` every unfinished trial of the study."""
        for trial in self._study.trials():
            if not trial.state.is_finished():
                self.sync(trial.number)
                if ended := unknown_end(self._study, self.folders, trial.number):
                    self._finish(trial.number, TrialState[ended.state], ended.reason, earlier=True)

    def end_waiting(self) -> None:
        """End the trials that are paused at a rung: the search is over, so they will not be promoted."""
        paused = [trial.number for trial in self._study.trials() if not trial.state.is_finished()]
        for number in paused:
            self._finish(number, TrialState.PRUNED, quiet=True)
        settle(self._study, self.folders, *paused)

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        for job in members(trial.config):
            begun = self._study.trial(job["number"])
            self._lines.begins(begun.number, job["until"])
            self._begun.add(begun.number)
            if not begun.state.is_finished():
                self.folders.claim(begun.number, self._study.configuration(begun.number))
                self.folders.write_start(begun.number, shown_in_tensorboard(self._study.space, begun.params))
        # A search that is resumed elsewhere must know every trial that has a checkpoint. One that began after the last
        # copy it finds by its folder (tune.study.restore).
        self._saving.copy_soon()

    def on_trial_result(
        self, iteration: int, trials: Sequence[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = result["number"]
        self._events[number] = {key: result[key] for key in ("epoch", FAILURE, INTERRUPTED) if key in result}
        if NOTE in result:  # before the trial's own end, which `sync` may print
            self._lines.note(number, result[NOTE])
        history = self.sync(number, epoch=result["epoch"])
        if FAILURE in result or INTERRUPTED in result:
            return
        self.health.heard(trial, history)
        self._saving.copy_soon()
        if history:
            self._lines.epoch(number, history[-1])

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Write what was put off, once it is time. Ray Tune calls this several times a second."""
        self._saving.poll()

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        for job in members(trial.config):
            # A pack that runs out of time ends as a whole. Some of its trials may have reported nothing yet.
            nothing = {INTERRUPTED: True} if "pack" in trial.config else {}
            self._end_job(job, self._events.pop(job["number"], nothing))

    def _end_job(self, job: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Record how a trial ended or paused after its job, whose last event this is."""
        number, reported = job["number"], event.get("epoch", 0)
        self._begun.discard(number)
        history = self.sync(number, epoch=reported)
        if self._study.trial(number).state.is_finished():
            return
        if INTERRUPTED in event or (FAILURE not in event and len(history) < reported):
            self._study.end_job(number)  # also if its folder stays behind: the trial is resumed, not judged
        elif FAILURE in event or not history or not math.isfinite(history[-1][METRIC]):
            self._finish(number, TrialState.FAIL, reason=event.get(FAILURE, "it reported no accuracy"))
        elif history[-1]["epoch"] >= job["until"]:
            self._wait(number, history[-1])
        else:  # a scheduler stopped it
            self._finish(number, TrialState.PRUNED)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        cause = keep_cause(trial, self.folders, hung=self.health.hung.pop(trial.config["number"], None))
        for job in members(trial.config):
            number = job["number"]
            self._events.pop(number, None)
            if self._study.space.resources.workers > 1:
                self._control.close.remote(trial_id(number))
                release(training_of(self.folders.of(number)))
            history = self.sync(number)
            # Ray may give a job the idle process of an earlier one, which has died since: no fault of this job.
            counted = number in self._begun and not cause.of_node
            self._begun.discard(number)
            if self._study.trial(number).state.is_finished():
                continue
            if cause.final:
                self._finish(number, TrialState.FAIL, reason=cause.reason)
            else:
                self._interrupt(number, cause.reason, epoch=len(history), counted=counted)

    def _interrupt(self, number: int, reason: str, *, epoch: int, counted: bool) -> None:
        """Record that a job ended for a cause that may pass. The study's next job is then this trial's."""
        again = self.retries.interrupted(number, reason, epoch=epoch, counted=counted)
        self._study.interrupt(number, aside=not again)
        if again:
            self._lines.held(number, f"{reason}; resuming from its checkpoint")
            return
        self._lines.held(number, f"{reason}; interrupted again without an epoch in between: it waits for --resume")
        self.health.ended(reason)
        self._saving.save_soon()

    def save(self, *, finished: bool = False) -> Summary:
        """Write the summary and copy the study at once, here and to the storage; return the summary."""
        return self._saving.save(finished=finished)

    def _wait(self, number: int, last: Mapping[str, Any]) -> None:
        """Record that the trial's job has ended at its rung: the trial pauses."""
        self._study.end_job(number)
        self._ended(None)
        self.folders.fetch(number)
        self._saving.save_soon()
        self._lines.waits(number, last)

    def _ended(self, reason: str | None) -> None:
        self.health.ended(reason)
        for number in self.retries.again() if reason is None else ():
            self._study.interrupt(number, aside=False)

    def _finish(
        self, number: int, state: TrialState, reason: str | None = None, *, quiet: bool = False, earlier: bool = False
    ) -> None:
        """Record the end of a trial in the study, in TensorBoard, in the summary and as a line."""
        self.folders.fetch(number)
        with self.folders.noted():
            best = write_end(self._study, self.folders, number, state, reason)
        if not earlier:  # what an earlier run has met says nothing about the jobs of this one
            self._ended(reason)
        if not quiet:
            settle(self._study, self.folders, number)
            self._saving.save_soon()
            epochs = len(self._study.trial(number).intermediate_values)
            self._lines.end(number, state.name, reason, epochs=epochs, best=best, summary=self._saving.summary())

    def _note_seconds(self, number: int, history: Sequence[Mapping[str, Any]]) -> None:
        self._seconds[number] = float(history[-1]["seconds"]) if history else 0.0


def write_end(
    study: SearchStudy, folders: TrialFolders, number: int, state: TrialState, reason: str | None
) -> dict[str, Any]:
    """Write the trial's end to TensorBoard and to the study; return its best epoch."""
    history = folders.history(number)
    best = best_epoch(history)
    decode = {f"decode.{name}": value for name, value in decoding_of(best).items()}
    seconds = {"seconds": history[-1]["seconds"]} if history else {}
    swept = {p.key: decode[p.key] for p in study.space.sweep if p.key in decode}
    folders.write_start(number, shown_in_tensorboard(study.space, study.trial(number).params | swept))
    folders.write_end(number, success=state != TrialState.FAIL, best=best)
    # The study comes last: if this is cut short, --resume finds the trial running and ends it again.
    others = objectives(study, number, best)[1:] if state == TrialState.COMPLETE else []
    study.finish(number, state, decode | seconds | ({"reason": reason} if reason else {}), others=others)
    return best


def keep_cause(trial: Any, folders: TrialFolders, *, hung: str | None) -> Cause:
    """Keep the traceback of a Ray trial's error in the folders of its trials; return why it ended.

    Args:
        hung: why the watchdog has killed its process, if it has.
    """
    text = Path(trial.error_file).read_text(errors="replace")
    for job in members(trial.config):
        with contextlib.suppress(OSError):  # the line about a full disk has to be enough
            folders.write_error(job["number"], text)
    if hung is not None:
        return Cause(hung, final=False)
    if trial.pickled_error_file is None:  # an error of Ray Tune itself
        return Cause(one_line(text.splitlines()[-1]), final=False)
    return cause_of(ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()))

"""Named configurations x training seeds: each a full training in a directory of its own, several at once.

--confirm and the ablations share this. The directories are the only state: when the same is asked for again, a finished
training is kept and an interrupted one resumes from its checkpoint. These trainings are never stopped early, so plain
Ray tasks are enough. All configurations train with the same seeds. Trainings with one seed draw the same pairs, so
their differences are paired and vary less.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nmt.config import Config, DecodeConfig, comparable, from_dict, to_flat, with_overrides
from nmt.data.store.identity import check_same, data_set_record, saved_record
from nmt.data.store.ready import ReadyData, ready_data
from nmt.errors import FailedError, TemporaryError, UserError
from nmt.io.address import absolute
from nmt.io.files import write_json
from nmt.settings import differences
from nmt.training.files import BEST, CHECKPOINT, CONFIG, DATA_SET, PREVIOUS
from nmt.training.history import F1_METRIC, FIXED_METRIC, METRIC, best_epoch, decoding_of, read_metrics
from nmt.training.logger import check_loggers
from nmt.training.signals import interruptions
from tune.evidence.progress import Progress
from tune.evidence.readings import note_reading
from tune.jobs.tasks import evaluate_on_test, outcomes, train_to_end, train_with_f1
from tune.results.layout import CONFIRM, FINAL, RUNS, TEST
from tune.results.live import live
from tune.results.log import log
from tune.results.statistics import CONFIDENCE, Difference, Mean, mean_of, paired_difference
from tune.spaces.settings import Resources


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A configuration to train with several seeds."""

    name: str
    """name in the table"""
    slug: str
    """name in its directories"""
    config: Config
    decode: Mapping[int, DecodeConfig] = field(default_factory=dict)
    """seed -> the decoding of its training; without one, that of `config`"""

    def with_seed(self, seed: int) -> Config:
        """Return the configuration of the training with this seed."""
        config = dataclasses.replace(self.config, decode=self.decode.get(seed, self.config.decode))
        return with_seed(config, seed)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a variant."""

    seed: int
    directory: str
    """relative to the directory of the repetition"""
    accuracy: float | None
    """validation accuracy of the best epoch; None if it failed, or if val was trained on"""
    accuracy_fixed_decode: float | None
    """accuracy of that epoch at the configuration's own decoding"""
    epoch: int | None
    """the best epoch"""
    epochs: int
    seconds: float
    decode: dict[str, Any]
    """the decoding of `accuracy`"""
    reason: str | None
    """why the training failed"""
    test_accuracy: float | None
    """accuracy of the best epoch's weights at `decode`; None until the test split has been read"""
    again: bool = False
    """True if it failed for a cause that may pass or be mended, so that the next call trains it again"""
    f1: float | None = None
    """val/f1 of the best epoch; None where it was not measured"""


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """All trainings of one variant, by seed. All of them have ended."""

    name: str
    runs: tuple[Run, ...]

    @property
    def accuracy(self) -> Mean | None:
        """Mean validation accuracy of the best epochs; None if every training failed."""
        return mean_of([r.accuracy for r in self.runs if r.accuracy is not None])

    @property
    def accuracy_fixed_decode(self) -> Mean | None:
        """The same mean at the configuration's own decoding."""
        return mean_of([r.accuracy_fixed_decode for r in self.runs if r.accuracy_fixed_decode is not None])

    @property
    def test_accuracy(self) -> Mean | None:
        """Mean test accuracy; None until the test split has been read."""
        return mean_of([r.test_accuracy for r in self.runs if r.test_accuracy is not None])

    @property
    def failures(self) -> list[str]:
        """One line for each training that failed."""
        return [f"{self.name}, seed {r.seed} failed: {r.reason}" for r in self.runs if r.reason]

    def above(self, reference: Repeated, *, of: str = "accuracy", confidence: float = CONFIDENCE) -> Difference | None:
        """Return the paired difference to `reference` over the seeds that both finished.

        Args:
            of: the compared field of `Run`.
            confidence: of the interval.

        Returns:
            The difference; None for fewer than two seeds.
        """
        mine = {r.seed: getattr(r, of) for r in self.runs if getattr(r, of) is not None}
        its = {r.seed: getattr(r, of) for r in reference.runs if getattr(r, of) is not None}
        seeds = sorted(mine.keys() & its.keys())
        return paired_difference([mine[s] for s in seeds], [its[s] for s in seeds], confidence=confidence)

    def to_dict(self, reference: Repeated | None = None) -> dict[str, Any]:
        """Return plain values with the statistics, and the difference to `reference` if one is given."""
        statistics = {name: _plain(getattr(self, name)) for name in STATISTICS}
        difference = self.above(reference) if reference is not None else None
        return {
            "name": self.name,
            **statistics,
            "difference": difference.to_dict() if difference else None,
            "runs": [dataclasses.asdict(r) for r in self.runs],
        }


AGAIN = "the same command continues"
RESUME = f"{AGAIN}, with --resume"
MAX_LABELS = 5
"""trainings that a message names"""
STATISTICS = ("accuracy", "accuracy_fixed_decode", "test_accuracy")


def _plain(value: Mean | None) -> dict[str, Any] | None:
    return dataclasses.asdict(value) if value is not None else None


def repeated_from_dict(content: Mapping[str, Any]) -> Repeated:
    """Decode what `Repeated.to_dict` returned. Raises KeyError or TypeError if it is something else."""
    return Repeated(name=content["name"], runs=tuple(Run(**r) for r in content["runs"]))


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """Runs the trainings of several configurations.

    Args:
        directory: the trainings are in directory/runs/SLUG-sSEED.
        data: the Arrow data set, a folder or an address.
        decode_grid: decodings that every training tries on its validation similarities, as in a trial.
        resources: of one training, which has one worker.
        keep: "best": a training that has reached its last epoch keeps best.pt alone of its weights; "all": everything.
        val_f1: measure val/f1 after each epoch.
    """

    directory: Path
    data: str | Path
    decode_grid: tuple[DecodeConfig, ...]
    resources: Resources
    keep: str = "best"
    val_f1: bool = False

    def run_directory(self, variant: Variant, seed: int) -> Path:
        """Return the directory of a training."""
        return self.directory / RUNS / f"{variant.slug}-s{seed}"

    @cached_property
    def identity(self) -> str:
        """The identity of the data set."""
        return self._ready.identity

    @cached_property
    def _ready(self) -> ReadyData:
        return ready_data(self.data, [])

    def check(self, variants: Sequence[Variant], seeds: Sequence[int]) -> ReadyData:
        """Check that the trainings can run, before anything starts; return their data set. Raises UserError."""
        ready = ready_data(self.data, [v.config for v in variants])
        for variant in variants:
            check_loggers(variant.config)
            for seed in seeds:
                _check_earlier(self.run_directory(variant, seed), variant.with_seed(seed), ready)
        return ready

    def train(self, variants: Sequence[Variant], seeds: Sequence[int]) -> list[Repeated]:
        """Train every variant with every seed, within `in_ray`. Finished trainings are kept.

        A training that ends with an error fails alone; `check_all_ended` says so after the table.

        Raises:
            UserError: a mistake that all of them have met.
            KeyboardInterrupt: Ctrl-C or SIGTERM; every training has its checkpoint.
        """
        # By seed, not by variant: after an interruption the variants can be compared over the seeds that are done.
        pairs = [(variant, seed) for seed in seeds for variant in variants]
        jobs = {}
        for variant, seed in pairs:
            directory = self.run_directory(variant, seed)
            if len(read_metrics(directory)) < variant.config.train.epochs:
                jobs[directory] = (variant.with_seed(seed), absolute(self.data), directory.resolve(), self.decode_grid)
            else:
                self._settle(directory)
                if not (directory / DATA_SET).is_file():  # trained before trainings kept it
                    write_json(directory / DATA_SET, data_set_record(self.identity, self.data))
        labels = {self.run_directory(v, s): f"{v.name}  seed {s}" for v, s in pairs}
        errors = self._train(jobs, labels) if jobs else {}
        return [
            Repeated(name=v.name, runs=tuple(self._run(self.run_directory(v, s), s, errors) for s in seeds))
            for v in variants
        ]

    def _train(self, jobs: Mapping[Path, tuple[Any, ...]], labels: Mapping[Path, str]) -> dict[Path, Exception]:
        """Run the jobs; return directory -> error for those that failed."""
        from tune.driver.room import concurrency, node_resources

        at_once = min(len(jobs), concurrency(self.resources, node_resources()))
        configs = {directory: config for directory, (config, *_) in jobs.items()}
        progress = Progress(self._title(), configs, labels, at_once=at_once)
        kept = f"; {len(labels) - len(jobs)} more are done already" if len(jobs) < len(labels) else ""
        log.info(f"{len(jobs)} trainings, {progress.total} epochs, {at_once} at once, in {self.directory / RUNS}{kept}")
        work = train_with_f1 if self.val_f1 else train_to_end
        errors = dict[Path, Exception]()
        with live(progress.board):
            for directory, outcome in outcomes(work, jobs, self.resources, progress.look):
                if isinstance(outcome, Exception):
                    errors[directory] = outcome
                    progress.ended(directory, f"failed: {_reason(outcome)}", failed=True)
                else:
                    self._settle(directory)
                    progress.ended(directory, _result(best_epoch(read_metrics(directory))), failed=False)
        mistakes = [e for e in errors.values() if isinstance(e, UserError) and not isinstance(e, TemporaryError)]
        if len(mistakes) == len(jobs):
            raise mistakes[0]
        return errors

    def _title(self) -> str:
        """Return the name of the live view: demo/confirm for the confirmation of the search demo, or the ablation."""
        directory = self.directory.resolve()
        return directory.name if directory.name not in (CONFIRM, FINAL) else "/".join(directory.parts[-2:])

    def _settle(self, directory: Path) -> None:
        """Delete the checkpoints of a training that has reached its last epoch, which nothing reads any more."""
        for name in (CHECKPOINT, PREVIOUS) if self.keep == "best" else ():
            (directory / name).unlink(missing_ok=True)

    def _run(self, directory: Path, seed: int, errors: Mapping[Path, Exception]) -> Run:
        from nmt.training.trainer import DivergedError

        history, error = read_metrics(directory), errors.get(directory)
        best = best_epoch(history) if error is None else {}
        return Run(
            seed=seed,
            directory=str(directory.relative_to(self.directory)),
            accuracy=best.get(METRIC),
            accuracy_fixed_decode=best.get(FIXED_METRIC),
            epoch=best.get("epoch"),
            epochs=len(history),
            seconds=round(history[-1]["seconds"], 2) if history else 0.0,
            decode=decoding_of(best),
            reason=_reason(error) if error is not None else None,
            test_accuracy=None,
            again=error is not None and not isinstance(error, DivergedError),
            f1=best.get(F1_METRIC),
        )

    def _with_test(self, run: Run) -> Run:
        """Return the run with its test accuracy, if that has been read."""
        found = self._test(self.directory / run.directory)
        if run.reason is not None or found is None:
            return run
        return dataclasses.replace(run, test_accuracy=found["accuracy"])

    def _test(self, directory: Path) -> dict[str, Any] | None:
        """Return what was read of this data set's test split; None if nothing was. Older readings name no data set."""
        if not (directory / TEST).is_file():
            return None
        found: dict[str, Any] = json.loads((directory / TEST).read_text())
        return found if found.get("data_set", self.identity) == self.identity else None

    def with_known_test(self, repeated: Repeated) -> Repeated:
        """Return the trainings with the test accuracies that were read before."""
        return dataclasses.replace(repeated, runs=tuple(self._with_test(run) for run in repeated.runs))

    def read_test(self, repeated: Repeated) -> Repeated:
        """Return the trainings with their test accuracies, within `in_ray`.

        Each training is evaluated once, and its result kept: nobody can choose by repeated readings.

        Raises:
            UserError: some could not be evaluated; all others are.
        """
        folders = [self.directory / r.directory for r in repeated.runs if r.reason is None]
        missing = [folder for folder in folders if self._test(folder) is None]
        jobs = {directory: (directory.resolve() / BEST, absolute(self.data)) for directory in missing}
        note_reading(self._ready.folder, repeated.name, missing)  # first: a job that is killed has read it too
        failed: dict[Path, Exception] = {}
        for directory, outcome in outcomes(evaluate_on_test, jobs, self.resources, lambda: None):
            if isinstance(outcome, Exception):
                failed[directory] = outcome
            else:
                write_json(directory / TEST, outcome | {"data_set": self.identity})
        if failed:
            directory, error = next(iter(failed.items()))
            others = f", as in {len(failed) - 1} more" if len(failed) > 1 else ""
            raise UserError(
                f"{directory}: the test split could not be read ({_reason(error)}){others}; the same command "
                "tries again"
            )
        return self.with_known_test(repeated)


def _result(best: Mapping[str, Any]) -> str:
    """Return the result of a training: its validation accuracy, or its loss where val was trained on."""
    result = f"{100 * best[METRIC]:.1f} %" if METRIC in best else f"loss {best['train/loss']:.3f}"
    return f"{result} at epoch {best['epoch']}"


def _reason(error: Exception) -> str:
    """Return why a training or an evaluation failed, in one line."""
    from tune.jobs.causes import cause_of

    return cause_of(error).reason


def check_all_ended(variants: Sequence[Repeated], *, again: str) -> None:
    """Check, after the table, that no training is left to the next call.

    Args:
        again: the way to train them again, for the message.

    Raises:
        FailedError: some failed for a cause that may pass or be mended. One that diverged has ended.
    """
    runs = [(variant.name, run) for variant in variants for run in variant.runs]
    failed = [(name, run) for name, run in runs if run.again]
    if failed:
        reason = failed[0][1].reason
        labels = "; ".join(f"{name}, seed {run.seed}" for name, run in failed[:MAX_LABELS])
        more = f"; {len(failed) - MAX_LABELS} more" if len(failed) > MAX_LABELS else ""
        raise FailedError(
            f"{len(failed)} of {len(runs)} trainings failed ({labels}{more}), the first by: {reason}; {again}"
        )


def check_one_worker(resources: Resources, source: str) -> None:
    """Raise UserError if a training of the file `source` would have several workers."""
    if resources.workers > 1:
        raise UserError(
            f"{source}: [resources] workers = {resources.workers}, but repeated trainings have one worker each; set "
            f"workers = 1 there (the result is the same: data.pairs_per_step counts all workers)"
        )


def with_seed(config: Config, seed: int) -> Config:
    """Return the configuration with this training seed."""
    return with_overrides(config, {"train.seed": seed}, source="seed")


def _check_earlier(directory: Path, config: Config, data: ReadyData) -> None:
    """Raise UserError if `directory` holds a training of another configuration, or on another data set."""
    path = directory / CONFIG
    if not path.is_file():
        return
    there = from_dict(json.loads(path.read_text()), source=str(path))
    if different := differences(to_flat(comparable(there)), to_flat(comparable(config))):
        raise UserError(f"{directory} holds another training ({different}); choose another --results, or remove it")
    check_same(saved_record(directory / DATA_SET), data.identity, where=directory, data=data.given)


@contextlib.contextmanager
def in_ray(directory: Path, *, again: str = AGAIN) -> Iterator[None]:
    """Lock `directory` for this process and start Ray.

    SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt within.

    Args:
        again: how to continue if Ray dies, for the message.
    """
    from tune.driver.ray_session import ray_session
    from tune.results.lock import only_one

    def interrupt() -> None:
        raise KeyboardInterrupt  # `outcomes` then makes every training write its checkpoint

    with only_one(directory), ray_session(again=again), interruptions(interrupt):
        yield

"""Run a search from start to end: checks, Ray, trials, summary.

The folder of a search is its only state: the study, and the checkpoint and metrics of each trial. `--resume` starts a
fresh Ray Tune run that takes the unfinished trials first. Ray's own files are made anew each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.tune
from optuna.trial import FrozenTrial
from ray.tune.stopper import CombinedStopper, FunctionStopper

from nmt.data.store.ready import ReadyData, local_data, ready_data
from nmt.errors import FailedError, TemporaryError, UserError
from nmt.training.cards import Card, this_card
from nmt.training.files import BEST
from nmt.training.fit import fit_line
from nmt.training.history import F1_METRIC, METRIC
from nmt.training.logger import check_loggers
from tune.driver.early_stopping import make_scheduler
from tune.driver.groups import Groups
from tune.driver.identity import (
    check_data_set,
    check_home,
    check_results,
    say_changed,
    say_nothing_to_resume,
    write_definition,
)
from tune.driver.interruption import Interruption
from tune.driver.kept import settle_left
from tune.driver.lines import Lines, goal_of
from tune.driver.preflight import SOURCES, SearchPreview, epoch_line, preflight
from tune.driver.preflight import render as render_preview
from tune.driver.provenance import study_attributes
from tune.driver.ray_searcher import StudySearcher
from tune.driver.ray_session import ray_session
from tune.driver.recorder import Recorder
from tune.driver.restored import is_over, restore_study
from tune.driver.summarize import with_val_pairs
from tune.driver.trial_folders import TrialFolders
from tune.driver.watchdog import Watchdog
from tune.jobs.control import open_control
from tune.jobs.protocol import TrialSetup
from tune.jobs.trainable import make_trainable
from tune.results import layout
from tune.results.layout import trial_id
from tune.results.live import live
from tune.results.lock import only_one
from tune.results.log import kept_in, log
from tune.results.report import render
from tune.results.storage import Storage, no_weights, run_address
from tune.results.summary import Summary
from tune.spaces.rules import with_workers
from tune.spaces.space import Space
from tune.study.budget import plan
from tune.study.restore import is_ahead
from tune.study.study import SearchStudy, ladder
from tune.study.warm_start import keep, warm_trials

DRIVER_RESOURCE = "node:__internal_head__"
"""resource of the head node: the process that drives a trial's workers runs there and needs no core"""


def run_search(
    space: Space,
    *,
    results: Path,
    data: str | Path,
    storage: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    workers: str | None = None,
    resume: bool = False,
) -> Summary:
    """Run the search, or resume it, in `results`/NAME; print its report and return its summary.

    tune.driver.two_stage runs searches with `fidelity`. Connects to the cluster at RAY_ADDRESS if that is set;
    otherwise starts Ray on this machine until the search ends.

    Args:
        results: directory of all searches.
        data: the Arrow data set, a folder or an address.
        storage: folder or address where all searches live; `results` is then the working copy on each node.
        trials: number of trials, instead of the space's. A resumed search keeps its own unless this is given.
        seed: seed of the sampler, instead of the space's. A resumed search keeps its own.
        workers: workers of each trial, "4" or "2:8", instead of the space's. A resumed search keeps its own likewise.

    Raises:
        UserError: `results`/NAME holds another search or is in use, or a failed check of `preflight`.
        FailedError: too many trials in a row failed, some were interrupted and wait for --resume, or the disk is full.
        KeyboardInterrupt: Ctrl-C; every trial has its checkpoint, so the search can be resumed.
    """
    directory = results / space.name
    home = find_home(storage, directory, resume=resume)
    space = check_results(space, directory, resume=resume, trials=trials, seed=seed, workers=workers)
    if resume:
        say_nothing_to_resume(directory, space.name)
        say_changed(space, directory)
    summary = complete(space, directory, data=lambda: ready_data(data, space.stored()), home=home)
    with kept_in(directory):
        log.info("")
        log.info(render(summary, directory))
    if home is not None:
        home.put(pattern=layout.LOG)
    return summary


def complete(space: Space, directory: Path, *, data: Callable[[], ReadyData], home: Storage | None) -> Summary:
    """Run the rest of the checked search in `directory`; return its summary.

    Args:
        data: function that checks and returns the data set; called only if something is left to train.
        home: the storage of the search, if it has one.
    """
    earlier = restore_study(space, directory)
    warm = warm_trials(space, directory / layout.WARM_START, ladder(space), study_file=layout.STUDY)
    if earlier is None or not is_over(earlier, space):
        check_loggers(space.base)
        ready = data()
        check_data_set(directory, ready)
        ready = with_val_pairs(ready, space.base.data)
        with ray_session():
            preview = preflight(space, directory=directory, data=ready, storage=home.address if home else None)
            with only_one(directory), kept_in(directory), _resumable():
                return _search(space, directory, ready, home, warm, preview, earlier.seconds if earlier else 0.0)
    return earlier


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """End a search that has begun with FailedError where a fault of the machines ends it: no mistake of the user's."""
    try:
        yield
    except TemporaryError as error:
        hint = "" if "--resume" in str(error) else "; continue with --resume"
        raise FailedError(f"{error}{hint}") from error


def preview_search(
    space: Space,
    *,
    results: Path,
    data: str | Path,
    storage: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    card: Card | None = None,
    workers: str | None = None,
) -> SearchPreview:
    """Run every check of `run_search` and print what it would do (`--dry-run`). Changes nothing.

    Args:
        card: GPU whose memory a trial's step is compared with; by default that of this machine, if trials use GPUs.
    """
    directory, space = results / space.name, with_workers(space.with_budget(trials=trials, seed=seed), workers)
    home = storage and run_address(storage, space.name)
    check_loggers(space.base)
    ready = ready_data(data, space.stored())
    with ray_session():
        plan = preflight(space, directory=directory, data=ready, storage=home)
    plan = dataclasses.replace(plan, memory=_memory(space, ready, card))
    log.info(render_preview(plan, space, directory=directory, data=ready.given, storage=home))
    return plan


def _memory(space: Space, data: ReadyData, card: Card | None) -> str | None:
    """Return whether a step of the default configuration fits the share of a GPU that a worker has."""
    resources = space.resources
    card = card or (this_card() if resources.gpus else None)
    if card is None:
        return None
    if 0 < resources.gpus < 1:
        card = dataclasses.replace(card, name=f"{resources.gpus:g} of {card.name}", memory=resources.gpus * card.memory)
    return fit_line(space.base, data=local_data(data, space.base), card=card, workers=resources.fewest)


def find_home(storage: str | None, directory: Path, *, resume: bool) -> Storage | None:
    """Return the storage of the search. With `resume`, first download what it has of the search, if anything.

    Raises:
        UserError: the storage already holds a search, or with `resume` the search lives at another place.
    """
    home = Storage(run_address(storage, directory.name), directory.resolve()) if storage is not None else None
    if home is not None and home.holds(layout.DEFINITION):
        if not resume:
            raise UserError(
                f"{home.address} already holds a search; continue it with --resume, or choose another --storage"
            )
        with only_one(directory):
            ahead = _is_ahead(home)
            home.fetch(wanted=lambda name: no_weights(name) and not (ahead and name == layout.STUDY))
        return home
    if resume:
        check_home(directory)
    if resume and home is not None:
        for trial in (directory / layout.TRIALS).glob("*"):
            home.put(f"{layout.TRIALS}/{trial.name}")
    return home


def _is_ahead(home: Storage) -> bool:
    """True if the study here has what its copy at the storage, made every few seconds, does not have yet."""
    study, mirror = home.directory / layout.STUDY, Storage(home.address, home.directory / layout.MIRROR)
    if not study.is_file():
        return False
    mirror.fetch(wanted=lambda name: name == layout.STUDY)
    return is_ahead(study, mirror.directory / layout.STUDY, home.directory.name)


def _search(
    space: Space,
    directory: Path,
    data: ReadyData,
    home: Storage | None,
    warm: Sequence[FrozenTrial],
    preview: SearchPreview,
    earlier_seconds: float,
) -> Summary:
    write_definition(space, directory, data, home=home.address if home else None)
    keep(space, directory / layout.WARM_START, warm)
    about = study_attributes(space, data, preview.versions, SOURCES)
    study = SearchStudy(directory / layout.STUDY, space, warm=warm, about=about)
    at = f" and {home.address}" if home else ""
    budget = plan(space.search, study.ladder)
    log.info(f"{budget}; {preview.at_once} at once, in {directory}{at}; 000 is the default configuration")
    if not earlier_seconds:
        log.info(epoch_line(preview, space))
    with (
        open_control() as control,
        Interruption(control).caught() as interruption,
    ):
        setup = TrialSetup(
            data=data,
            directory=directory.resolve(),
            decode_grid=space.decode_grid(),
            val_f1=F1_METRIC in space.search.objectives,
            resources=space.resources,
            storage=home,
            control=control,
        )
        lines = Lines(study.ladder.epochs, earlier_seconds=earlier_seconds, goal=goal_of(space, study.ladder))
        health = Watchdog(space.search, stop=interruption.stop)
        recorder = Recorder(
            study, TrialFolders(directory, home), data=data, lines=lines, control=control, health=health
        )
        settle_left(study, recorder.folders)
        groups = Groups(space.resources, directory, control=control, health=health, note=lines.held)
        with live(lines.board):
            finished = _run_jobs(study, recorder, groups, make_trainable(setup), preview.at_once, interruption)
    waiting = recorder.retries.waiting
    finished = finished and not waiting
    recorder.sync_unfinished()
    if finished:
        recorder.end_waiting()
    summary = recorder.save(finished=finished)
    if home is not None and finished and summary.best is not None and summary.best.checkpoint is not None:
        home.fetch(str(Path(summary.best.checkpoint).parent), wanted=lambda name: name == BEST)
    if interruption.reason is not None:
        raise FailedError(f"{interruption.reason}; fix it, then continue with --resume")
    if waiting and not interruption.came:
        raise FailedError(f"{recorder.retries.in_words()}; continue with --resume")
    if not finished:
        raise KeyboardInterrupt
    return summary


def _run_jobs(
    study: SearchStudy, recorder: Recorder, groups: Groups, trainable: Any, at_once: int, interruption: Interruption
) -> bool:
    """Run the jobs of the search. Return True if all were run, False if the search was interrupted."""
    space, ray_directory = study.space, recorder.folders.directory.resolve() / layout.RAY
    shutil.rmtree(ray_directory, ignore_errors=True)
    alone = {"CPU": float(space.resources.cpus), "GPU": space.resources.gpus}
    bundle = alone if space.resources.workers == 1 else {DRIVER_RESOURCE: 0.001}
    searcher = StudySearcher(study, metric=METRIC, out_of_time=recorder.out_of_time, stopping=lambda: interruption.came)
    scheduler = make_scheduler(study, metric=METRIC)
    late = FunctionStopper(lambda job, result: recorder.out_of_time())
    # Only now, after the scheduler has read the study: it takes the epochs there as decided. On those that an earlier
    # run trained but did not record, it decides at the first event of the job.
    recorder.sync_unfinished()
    recorder.save()
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, ray.tune.PlacementGroupFactory([bundle])),
        tune_config=ray.tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # unlimited: a trial may take several jobs, and the study ends the search
            max_concurrent_trials=at_once,
            # A process that has imported torch starts the next trial in 0.1 s, a new one in 3.6 s.
            reuse_actors=True,
            trial_name_creator=_job_name,
            trial_dirname_creator=_job_name,
        ),
        run_config=ray.tune.RunConfig(
            name=layout.RAY_TUNE,
            storage_path=str(ray_directory),
            callbacks=[recorder, recorder.health, groups],
            stop=CombinedStopper(interruption, late),
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=ray.tune.FailureConfig(max_failures=0),  # the study's next job is the retry
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except ray.tune.TuneError:
        if (error := recorder.folders.error or study.error) is not None:
            raise error from None
        raise
    return searcher.finished


def _job_name(job: Any) -> str:
    return f"{trial_id(job.config['number'])}-{job.config['until']}"

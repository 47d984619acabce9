"""A search from beginning to end: checks, Ray, the trials, the summary.

The truth of a search is its directory: the study, and each trial's checkpoint and metrics. `--resume` is a fresh Ray
run over it that hands out the unfinished trials first; Ray's own bookkeeping is made anew each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import ray.tune
from optuna.trial import FrozenTrial
from ray.tune.stopper import CombinedStopper, FunctionStopper

from nmt.data.store.ready import ReadyData, ready_data
from nmt.errors import FailedError, UserError
from nmt.training.history import METRIC
from tune.driver.early_stopping import make_scheduler
from tune.driver.identity import check_results, write_definition
from tune.driver.interruption import Interruption
from tune.driver.lines import Lines
from tune.driver.preflight import SearchPreview, preflight
from tune.driver.preflight import render as render_preview
from tune.driver.ray_searcher import StudySearcher
from tune.driver.ray_session import ray_session
from tune.driver.recorder import Recorder
from tune.driver.trial_folders import TrialFolders
from tune.driver.watchdog import Watchdog
from tune.jobs.control import open_control
from tune.jobs.protocol import TrialSetup
from tune.jobs.trainable import make_trainable
from tune.results import layout
from tune.results.layout import trial_id
from tune.results.lock import only_one
from tune.results.log import kept_in, log
from tune.results.report import render
from tune.results.storage import Storage, no_weights, run_address
from tune.results.summary import Summary, load_summary
from tune.spaces.space import Space
from tune.study.budget import plan
from tune.study.study import SearchStudy, ladder
from tune.study.warm_start import keep, warm_trials

DRIVER_RESOURCE = "node:__internal_head__"
"""the head node's own resource: the process that watches over a trial's workers needs no core"""


def run_search(
    space: Space,
    *,
    results: Path,
    data: str | Path,
    storage: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    resume: bool = False,
) -> Summary:
    """Run the search, or resume it, in `results`/NAME; log and return what it found.

    One with `fidelity` is run by tune.driver.two_stage. Connects to the cluster at RAY_ADDRESS if that is set, else
    starts Ray on
    this machine for the time of the search.

    Args:
        results: directory of all searches.
        data: the Arrow data set, a folder or an address.
        storage: folder or address where all searches live, with `results` as the place to work in on each node.
        trials: budget, instead of the space's; a resumed search remembers its own, and this may raise it.
        seed: of the sampler, instead of the space's; a resumed search remembers its own.

    Raises:
        UserError: results of another search or in use, or what `preflight` finds.
        FailedError: too many trials in a row failed.
        KeyboardInterrupt: Ctrl-C; every trial has its checkpoint, to be resumed.
    """
    directory = results / space.name
    home = find_home(storage, directory, resume=resume)
    space = check_results(space, directory, resume=resume, trials=trials, seed=seed)
    summary = complete(space, directory, data=ready_data(data, space.stored()), home=home)
    with kept_in(directory):
        log.info("")
        log.info(render(summary, directory))
    if home is not None:
        home.put(pattern=layout.LOG)
    return summary


def complete(space: Space, directory: Path, *, data: ReadyData, home: Storage | None) -> Summary:
    """Run what is left of the checked search in `directory`, whose place at the storage is `home`."""
    warm = warm_trials(space, directory / layout.WARM_START, ladder(space), study_file=layout.STUDY)
    earlier = load_summary(directory) if (directory / layout.SUMMARY).is_file() else None
    if earlier is None or not earlier.finished or earlier.search != space.to_dict()["search"]:
        with ray_session():
            plan = preflight(space, directory=directory, data=data, storage=home.address if home else None)
            with only_one(directory), kept_in(directory):
                return _search(space, directory, data, home, warm, plan.at_once, earlier.seconds if earlier else 0.0)
    return earlier


def preview_search(
    space: Space,
    *,
    results: Path,
    data: str | Path,
    storage: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
) -> SearchPreview:
    """`--dry-run`: every check of `run_search`, and what it would do in words. Changes nothing."""
    directory, space = results / space.name, space.with_budget(trials=trials, seed=seed)
    home = storage and run_address(storage, space.name)
    ready = ready_data(data, space.stored())
    with ray_session():
        plan = preflight(space, directory=directory, data=ready, storage=home)
    log.info(render_preview(plan, space, directory=directory, data=ready.given, storage=home))
    return plan


def find_home(storage: str | None, directory: Path, *, resume: bool) -> Storage | None:
    """The search's place at the storage. With `resume` what it has of the search is fetched, if it has any."""
    if storage is None:
        return None
    home = Storage(run_address(storage, directory.name), directory.resolve())
    if home.holds(layout.DEFINITION):
        if not resume:
            raise UserError(f"{home.address} already holds a search; go on with --resume, or choose another --storage")
        with only_one(directory):
            home.fetch(wanted=no_weights)
    elif resume:
        for trial in (directory / layout.TRIALS).glob("*"):
            home.put(f"{layout.TRIALS}/{trial.name}")
    return home


def _search(
    space: Space,
    directory: Path,
    data: ReadyData,
    home: Storage | None,
    warm: Sequence[FrozenTrial],
    at_once: int,
    earlier_seconds: float,
) -> Summary:
    write_definition(space, directory)
    keep(space, directory / layout.WARM_START, warm)
    study = SearchStudy(directory / layout.STUDY, space, warm=warm)
    at = f" and {home.address}" if home else ""
    budget = plan(space.search, study.ladder)
    log.info(f"{budget}; {at_once} at once, in {directory}{at}; 000 is the default configuration")
    with (
        open_control() as control,
        Interruption(control).caught() as interruption,
    ):
        setup = TrialSetup(
            data=data.source,
            directory=directory.resolve(),
            decode_grid=space.decode_grid(),
            resources=space.resources,
            storage=home,
            control=control,
        )
        recorder = Recorder(
            study,
            TrialFolders(directory, home),
            data=data.given,
            lines=Lines(study.ladder.epochs, earlier_seconds=earlier_seconds),
            control=control,
            health=Watchdog(space.search, stop=interruption.stop),
        )
        finished = _run_jobs(study, recorder, make_trainable(setup), at_once, interruption)
    recorder.sync_unfinished()
    if finished:
        recorder.end_waiting()
    summary = recorder.save(finished=finished)
    if interruption.reason is not None:
        raise FailedError(f"{interruption.reason}; mend it, then go on with --resume")
    if not finished:
        raise KeyboardInterrupt
    return summary


def _run_jobs(study: SearchStudy, recorder: Recorder, trainable: Any, at_once: int, interruption: Interruption) -> bool:
    """Run the search's jobs; returns whether all were run, or it was interrupted."""
    space, ray_directory = study.space, recorder.folders.directory.resolve() / layout.RAY
    shutil.rmtree(ray_directory, ignore_errors=True)
    alone = {"CPU": float(space.resources.cpus), "GPU": space.resources.gpus}
    bundle = alone if space.resources.workers == 1 else {DRIVER_RESOURCE: 0.001}
    searcher = StudySearcher(study, metric=METRIC, out_of_time=recorder.out_of_time, stopping=lambda: interruption.came)
    scheduler = make_scheduler(study, metric=METRIC)
    late = FunctionStopper(lambda job, result: recorder.out_of_time())
    # After the scheduler has read the study: on what it finds there it has decided before, on the rest a job's first
    # event asks it to.
    recorder.sync_unfinished()
    recorder.save()
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, ray.tune.PlacementGroupFactory([bundle])),
        tune_config=ray.tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # the study says when it is over: a trial may take several jobs
            max_concurrent_trials=at_once,
            # A process that has torch takes the next trial in 0.1 s.
            reuse_actors=True,
            trial_name_creator=_job_name,
            trial_dirname_creator=_job_name,
        ),
        run_config=ray.tune.RunConfig(
            name=layout.RAY_TUNE,
            storage_path=str(ray_directory),
            callbacks=[recorder, recorder.health],
            stop=CombinedStopper(interruption, late),
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=ray.tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except ray.tune.TuneError:
        if recorder.folders.error is not None:
            raise recorder.folders.error from None
        raise
    return searcher.finished


def _job_name(job: Any) -> str:
    return f"{trial_id(job.config['number'])}-{job.config['until']}"

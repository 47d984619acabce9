"""What a trial's events cost the process that drives a search, by the number of trials that the search has already.

    python tests/bench/driver.py [--trials 100 1000 2000] [--last 50] [--record]

No trial is trained and no Ray runs. The search of search_spaces/voc.toml is brought to a size from the folders of its
trials, as --resume makes a lost study again, and opened. Its last trials then go through the searcher, the recorder and
the watchdog, which are called as Ray Tune calls them, two jobs at once. Between the calls the bench writes what a
training would. Times are of the processor, in ms, and the median of all calls; nothing but the driver is counted.

Seen on two cores that were busy with other work, which makes single figures uncertain by a third. On the left before
the study was kept in memory, a record written from its last text, and the copies put off; on the right since then:

    trials                                 100    1000    2000       100    1000    2000
    next job, random                        23     429    1048        10       9      11
    next job, tpe                           36     463    1055        17      33      55
    ... of which Optuna draws                3       9      20         4      13      18
    start of a job                           4       7       9         1       1       1
    report of an epoch                       4       4       4         3       3       3
    end of a job at a rung                 148    2441    5488       0.2     0.1     0.1
    end of a trial                         151    2494    5650        27      17      18

Medians of 6 to 50 trials (--last 50, 6 and 6 on the left, 20, 15 and 20 on the right). Optuna's line leaves out how it
infers the space, but for the 13.

What is put off takes 18 ms at 1000 trials, at most every 10 s. Opening a resumed search takes 1.3 s there, and making a
lost study again 9 s. TPE reads every trial at each draw. That grows with the search, and so does what is made ready for
it: a value for each trial, which changes with every rank.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from record import record

from nmt.config import to_dict
from nmt.data.store.ready import ReadyData
from nmt.io.files import write_json
from nmt.training.files import BEST, CONFIG
from nmt.training.history import FIXED_METRIC, METRIC, Progress, write_metrics
from tune.driver.lines import Lines
from tune.driver.ray_searcher import StudySearcher
from tune.driver.recorder import Recorder
from tune.driver.restored import restore_study
from tune.driver.trial_folders import TrialFolders
from tune.driver.watchdog import Watchdog
from tune.results.layout import DEFINITION, STUDY, trial_folder
from tune.results.log import log
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.sampler import SamplerRequest, register_sampler, suggest
from tune.study.study import SearchStudy, judged, ladder

SPACE = Path(__file__).parents[2] / "search_spaces/voc.toml"
CATEGORIES = 20
AT_ONCE = 2
MAKE, OPEN, NEXT, ALONE, START, REPORT, PAUSE, END, LATER = (
    "make the study again from all folders",
    "open a search that is resumed",
    "next job",
    "... of which Optuna draws a new trial",
    "start of a job",
    "report of an epoch",
    "end of a job at a rung",
    "end of a trial",
    "what is put off, at most every 10 s",
)

Times = dict[str, list[float]]
"""event -> processor time of each call in ms"""


class Timed:
    """Collects the processor time of blocks by name."""

    def __init__(self) -> None:
        self.times: Times = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.times.setdefault(name, []).append(1000 * (time.process_time() - started))

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(taken) for name, taken in self.times.items()}


SAMPLING = Timed()


class TimedTpe(optuna.samplers.TPESampler):
    """Optuna's sampler, which notes how long it takes for the values that it draws together."""

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        started = time.process_time()
        space = super().infer_relative_search_space(study, trial)
        self.inferred = time.process_time() - started
        return space

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        with SAMPLING(ALONE):
            params = super().sample_relative(study, trial, search_space)
        SAMPLING.times[ALONE][-1] += 1000 * self.inferred
        return params


@register_sampler("timed_tpe")
def timed_tpe(request: SamplerRequest) -> optuna.samplers.BaseSampler:
    """As tune.study.sampler makes it."""
    return TimedTpe(
        seed=request.seed, n_startup_trials=request.startup, multivariate=True, group=True, constant_liar=True
    )


def accuracy(number: int, epoch: int) -> float:
    """Of a made-up training: the order of trials is the same after any epoch."""
    return 0.3 + 0.4 * random.Random(number).random() + 0.01 * epoch


def train(space: Space, directory: Path, number: int, until: int) -> None:
    """Leave what a trial leaves: an entry of some 30 metrics an epoch, and its best weights."""
    progress = Progress()
    for epoch in range(1, until + 1):
        value = accuracy(number, epoch)
        progress.history.append(
            {"epoch": epoch, METRIC: value}
            | {f"{METRIC}/category{k:02}": value - 0.001 * k for k in range(CATEGORIES)}
            | {FIXED_METRIC: value - 0.01, "decode/sinkhorn_iterations": 27, "decode/epsilon": 0.035}
            | {"decode/assignment": "argmax", "inference_seconds": 0.0123}
            | {f"train/{name}": 1.2345 / epoch for name in ("loss", "info_nce", "hyperspherical", "layer")}
            | {"train/pairs_per_second": 123.4, "seconds": 600.0 * epoch}
        )
    write_metrics(directory / trial_folder(number), progress)
    (directory / trial_folder(number) / BEST).touch()


def make_folders(space: Space, directory: Path, trials: int) -> None:
    """Leave the folders of the first trials: each rung has passed on its best third, so no promotion is due."""
    drawn = dataclasses.replace(space, search=dataclasses.replace(space.search, sampler="random"))
    order = sorted(range(1, trials), key=lambda n: -accuracy(n, 1))
    rank = {number: place for place, number in enumerate(order)}
    rungs = ladder(space).rungs
    write_json(directory / DEFINITION, space.to_dict())
    for number in range(trials):
        params = space.default_params
        if number:
            chosen = suggest(drawn, [], judged(space), number)
            assert chosen is not None
            params = space.decoded(chosen.params)
        write_json(directory / trial_folder(number) / CONFIG, to_dict(space.configuration(params)))
        passed = [rung for k, rung in enumerate(rungs) if not number or rank[number] < (trials - 1) // 3**k]
        train(space, directory, number, passed[-1])


class Search:
    """A search without Ray, opened as --resume opens it."""

    def __init__(self, space: Space, directory: Path, timed: Timed) -> None:
        self.space, self.directory, self.timed = space, directory, timed
        with timed(OPEN):
            restore_study(space, directory)
            self.study = SearchStudy(directory / STUDY, space)
            self.health = Watchdog(space.search, stop=print)
            self.recorder = Recorder(
                self.study,
                TrialFolders(directory, None),
                data=ReadyData("data/voc", "data/voc", Path("data/voc"), "", has_test=True),
                lines=Lines(self.study.ladder.epochs, earlier_seconds=0.0),
                control=None,
                health=self.health,
            )
            self.recorder.sync_unfinished()
            self.recorder.save()
        with timed(LATER):
            self.recorder.save()
        self.searcher = StudySearcher(
            self.study, metric=METRIC, out_of_time=self.recorder.out_of_time, stopping=lambda: False
        )

    def run(self, trials: int) -> None:
        """Drive jobs, two at once, an epoch of each in turn, until so many new trials have begun and all have ended."""
        last, running = len(self.study.trials()) + trials, list[tuple[Any, int]]()
        begun = 0
        while running or begun < last:
            while len(running) < AT_ONCE and begun < last:
                running.append(self.start())
                begun = max(begun, running[-1][0].config["number"] + 1)
            running = [job for job in running if self.epoch(*job)]
            self.recorder.on_step_end(0, [])
            running = [(trial, epoch + 1) for trial, epoch in running]

    def start(self) -> tuple[Any, int]:
        """Begin the next job; return it as Ray knows it, and its next epoch."""
        with self.timed(NEXT):
            config = self.searcher.suggest("")
        assert isinstance(config, dict)
        trial = SimpleNamespace(config=config, run_metadata=SimpleNamespace())
        with self.timed(START):
            self.recorder.on_trial_start(0, [], trial)
            self.health.on_trial_start(0, [], trial)
        return trial, len(self.study.trial(config["number"]).intermediate_values) + 1

    def epoch(self, trial: Any, epoch: int) -> bool:
        """Train an epoch of a job and report it; return False if the job has ended with it."""
        number, until = trial.config["number"], trial.config["until"]
        train(self.space, self.directory, number, epoch)
        result = {"number": number, "epoch": epoch, METRIC: accuracy(number, epoch)}
        # The report of the last epoch ends the trial.
        with self.timed(END if epoch == self.study.ladder.epochs else REPORT):
            self.recorder.on_trial_result(0, [], trial, result)
        if epoch < until:
            return True
        with self.timed(PAUSE):
            self.recorder.on_trial_complete(0, [], trial)
        return False


def measure(trials: int, last: int, directory: Path) -> dict[str, float]:
    """Return event -> median of its processor time in ms, in a search that grows to so many trials."""
    space = load_space(SPACE).with_budget(trials=10 * trials)
    make_folders(space, directory, trials - last)
    making = Timed()
    with making(MAKE):
        restore_study(space, directory)
    found = making.medians()
    for sampler, share in (("random", 0.6), ("timed_tpe", 0.4)):
        timed = Timed()
        SAMPLING.times.clear()
        # timed_tpe is known here alone, so the file keeps the sampler of the space.
        search = dataclasses.replace(space.search, sampler=sampler)
        Search(dataclasses.replace(space, search=search), directory, timed).run(round(share * last))
        found |= {f"{name}, {sampler.removeprefix('timed_')}": value for name, value in SAMPLING.medians().items()}
        names = timed.medians()
        found[f"{NEXT}, {sampler.removeprefix('timed_')}"] = names.pop(NEXT)
        found |= {name: value for name, value in names.items() if name not in found}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 2000], help="sizes of the search")
    parser.add_argument("--last", type=int, default=50, help="trials at the end of each size that are driven")
    parser.add_argument("--record", action="store_true", help="write the figures to RESULTS.md")
    args = parser.parse_args()
    log.setLevel("WARNING")  # no line per trial
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    memory = Path("/dev/shm")  # the time of a disk is not counted
    rows: dict[str, list[float]] = {}
    for trials in args.trials:
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
            folder = Path(directory) / "voc"
            folder.mkdir()
            for name, value in measure(trials, args.last, folder).items():
                rows.setdefault(name, []).append(value)
    print(f"{'':50}" + "".join(f"{trials:>10}" for trials in args.trials) + "     ratio")
    for name, values in rows.items():
        print(f"{name:50}" + "".join(f"{value:10.1f}" for value in values) + f"{values[-1] / values[0]:10.1f}")
    if args.record:
        sizes = f"processor time at {', '.join(map(str, args.trials))} trials:"
        times = {name: f"{', '.join(f'{value:.1f}' for value in values)} ms" for name, values in rows.items()}
        record({sizes: f"{args.last} driven", **times})


if __name__ == "__main__":
    main()

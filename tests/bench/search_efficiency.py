"""Count the epochs that a search trains until it has found a good configuration: ours, stock Ray + Optuna, and random.

    python tests/bench/search_efficiency.py [--seeds 30] [--first-seed 0] [--fix model.decoder_layers=1]
    python tests/bench/search_efficiency.py --train data/willow_rotated    # makes the table anew

search_efficiency.csv beside this file holds real trainings: every configuration of the grid in search_efficiency.toml
on rotated WILLOW, with its validation accuracy after each of 9 epochs. A search is replayed on it with its own decision
code and no processes: ours is tune.study.SearchStudy, stock is Ray's OptunaSearch and AsyncHyperBandScheduler, called
as Ray Tune calls them. Every replay runs two trials at once, an epoch of each in turn. It ends when a trial has shown
a value within half a point of the best in the table.

The stock baseline here is a weak one: it is given the listed numbers as names, as Optuna declares any list of values,
and so cannot know that neighbours are near. Ours is given their order. A fair rival, stock with the numbers as ordered
integers, needs a median of 102 epochs over one set of seeds and 134 over another, against 93 of ours (docs/search.md).
These figures therefore do not show an advantage over Ray and Optuna.

Seen, epochs in the median over 30 seeds (quartiles), seeds 0 to 29 and 30 to 59:

    ours: tpe + asha                          96 (76 to 117)       88 (64 to 107)
    ours: tpe + hyperband                    143 (100 to 176)
    ours: random + asha                      159 (106 to 258)
    stock, names, factor 3                   380 (119 to 1336)    310 (153 to 1500)
    random, full budget                      394 (250 to 758)     790 (452 to 1136); exact median 603
    stock, names, factor 4 (Ray's default)  1500 (157 to 1500)

Two of 192 configurations are good enough, so the medians of the baselines move much with the seeds. Two things made
ours fast: it draws no configuration twice, and its sampler sees the order of listed numbers
(tune/study/sampler_view.py). With neither, TPE draws its first favourite again and again, as stock does, and gives up
at 1500 in more than half of the seeds.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import heapq
import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.halving import Pause
from tune.study.sampler_view import distribution
from tune.study.study import SearchStudy

TABLE, SPACE = (Path(__file__).with_suffix(suffix) for suffix in (".csv", ".toml"))
METRIC = "val/accuracy"
CLOSE = 0.005
"""half a point"""
CAP = 1500
"""epochs after which a replay gives up"""
PACK = 12
"""trainings at once, where the table is made"""

Point = tuple[tuple[str, Any], ...]
"""searched key and value, sorted: a configuration"""


def point_of(values: Mapping[str, Any]) -> Point:
    return tuple(sorted(values.items()))


@dataclass(frozen=True)
class Table:
    """Real runs."""

    space: Space
    values: dict[Point, list[float]]
    """accuracy after every epoch"""

    @property
    def best(self) -> float:
        return max(map(max, self.values.values()))

    def fixed(self, assignment: str) -> Table:
        """The part of it where a key has a value, which is then no longer searched."""
        key, value = assignment.split("=")
        space = self.space
        given = json.loads(value)
        space = dataclasses.replace(space, parameters=tuple(p for p in space.parameters if p.key != key))
        kept = {tuple(i for i in p if i[0] != key): v for p, v in self.values.items() if (key, given) in p}
        return Table(space, kept)


def read_table() -> Table:
    space = load_space(SPACE)
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    epochs = range(1, space.base.train.epochs + 1)
    return Table(
        space,
        {
            point_of({p.key: p.type(float(row[p.key])) for p in space.parameters}): [float(row[str(e)]) for e in epochs]
            for row in rows
        },
    )


@dataclass
class Run:
    """A training under way."""

    name: Any
    point: Point
    epoch: int
    """trained so far"""


class Method(Protocol):
    """A search, as the replay drives it."""

    def start(self) -> Run | None:
        """What to train now; None: nothing before another run ends."""

    def report(self, run: Run, value: float) -> bool:
        """The value after `run.epoch`; returns whether the run goes on."""


class Ours:
    """The project's search: its study with its sampler and its halving."""

    def __init__(self, space: Space, seed: int, *, sampler: str, scheduler: str) -> None:
        search = dataclasses.replace(space.search, sampler=sampler, scheduler=scheduler, seed=seed, trials=CAP)
        self.study = SearchStudy(Path(":memory:"), dataclasses.replace(space, search=search))
        self.until: dict[int, int] = {}

    def start(self) -> Run | None:
        job = self.study.next_job()
        if isinstance(job, Pause):
            return None
        self.until[job.number] = job.until
        trial = self.study.trial(job.number)
        return Run(job.number, point_of(self.study.params(trial)), max(trial.intermediate_values, default=0))

    def report(self, run: Run, value: float) -> bool:
        self.study.report(run.name, run.epoch, value)
        if run.epoch < self.until[run.name]:
            return True
        if run.epoch == self.study.ladder.epochs:
            self.study.finish(run.name, TrialState.COMPLETE, {})
        else:
            self.study.end_job(run.name)
        return False


class Stock:
    """Ray's OptunaSearch, with Ray's ASHA or with none; listed numbers are names to it (see the module's docstring)."""

    def __init__(self, space: Space, seed: int, *, sampler: BaseSampler | None, reduction_factor: int | None) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        distributions = {p.key: distribution(p) for p in space.parameters}
        given = {"sampler": sampler} if sampler else {"seed": seed}
        self.search = OptunaSearch(space=distributions, metric=METRIC, mode="max", **given)
        self.epochs, self.names = space.base.train.epochs, itertools.count()
        self.scheduler = reduction_factor and AsyncHyperBandScheduler(
            time_attr="epoch", metric=METRIC, mode="max", max_t=self.epochs, reduction_factor=reduction_factor
        )

    def start(self) -> Run | None:
        trial = SimpleNamespace(trial_id=f"trial{next(self.names)}")
        params = self.search.suggest(trial.trial_id)
        if self.scheduler:
            self.scheduler.on_trial_add(None, trial)
        return Run(trial, point_of(params), 0)

    def report(self, run: Run, value: float) -> bool:
        result = {METRIC: value, "epoch": run.epoch, "training_iteration": run.epoch}
        over = run.epoch == self.epochs
        if self.scheduler and self.scheduler.on_trial_result(None, run.name, result) == "STOP":
            over = True
        if over:  # Ray tells the searcher of the last result as the trial's end alone
            self.search.on_trial_complete(run.name.trial_id, result)
            if self.scheduler:
                self.scheduler.on_trial_complete(None, run.name, result)
        else:
            self.search.on_trial_result(run.name.trial_id, result)
        return not over


METHODS: dict[str, Callable[[Space, int], Method]] = {
    "random, full budget": lambda s, n: Stock(s, n, sampler=RandomSampler(seed=n), reduction_factor=None),
    "stock: OptunaSearch + ASHA (factor 4)": lambda s, n: Stock(s, n, sampler=None, reduction_factor=4),
    "stock, factor 3": lambda s, n: Stock(s, n, sampler=None, reduction_factor=3),
    **{
        f"ours: {sampler} + {scheduler}": lambda s, n, a=sampler, b=scheduler: Ours(s, n, sampler=a, scheduler=b)  # type: ignore[misc]
        for sampler, scheduler in (
            ("tpe", "asha"),
            ("tpe", "hyperband"),
            ("tpe", "fifo"),
            ("random", "asha"),
            ("qmc", "asha"),
            ("gp", "asha"),
        )
    },
}
RANDOM, STOCK = list(METHODS)[:2]


def replay(method: Method, table: Table, *, at_once: int, target: float) -> list[float]:
    """The best value seen after each trained epoch, until one reaches `target`."""
    curve: list[float] = []
    order = itertools.count()
    under_way: list[tuple[int, int, Run]] = []
    now = 0
    while len(curve) < CAP:
        while len(under_way) < at_once and (run := method.start()) is not None:
            heapq.heappush(under_way, (now + 1, next(order), run))
        if not under_way:
            break
        now, _, run = heapq.heappop(under_way)
        run.epoch += 1
        value = table.values[run.point][run.epoch - 1]
        curve.append(max(value, curve[-1] if curve else 0.0))
        if value >= target:
            return curve
        if method.report(run, value):
            heapq.heappush(under_way, (now + 1, next(order), run))
    return [*curve, *[curve[-1]] * (CAP - len(curve))]


def replay_all(table: Table, seeds: Sequence[int], names: Sequence[str], at_once: int) -> dict[str, list[list[float]]]:
    """Method -> a curve a seed."""
    target = table.best - CLOSE
    curves: dict[str, list[list[float]]] = {}
    for name in names:
        curves[name] = [
            replay(METHODS[name](table.space, seed), table, at_once=at_once, target=target) for seed in seeds
        ]
        print(row(name, curves), flush=True)
    return curves


def row(name: str, curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """A line of the table: median and quartiles of the epochs, and the median beside those of random and stock."""
    low, median, high = statistics.quantiles((len(c) for c in curves[name]), n=4, method="inclusive")

    def ratio(other: str) -> str:
        return f"{median / statistics.median(len(c) for c in curves[other]):8.2f}" if other in curves else " " * 8

    return f"{name:38} {median:7.0f} {low:7.0f} {high:7.0f} {ratio(RANDOM)} {ratio(STOCK)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2, help="trials at a time")
    parser.add_argument("--fix", metavar="KEY=VALUE", help="replay the part of the table with this value")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--picture", type=Path, help="draw the curves as SVG")
    parser.add_argument("--train", type=Path, metavar="DATA", help="make the table: train the whole grid")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if args.train:
        train_table(load_space(SPACE), args.train)
    table = read_table()
    table = table.fixed(args.fix) if args.fix else table
    good = sum(max(values) >= table.best - CLOSE for values in table.values.values())
    print(f"{len(table.values)} configurations, best {table.best:.1%}; {good} come within {100 * CLOSE:g} points of it")
    print(
        f"{'epochs until one of them is found':38} {'median':>7} {'25 %':>7} {'75 %':>7} {'/random':>8} {'/stock':>8}"
    )
    curves = replay_all(table, range(args.first_seed, args.first_seed + args.seeds), args.methods, args.at_once)
    if args.picture:
        args.picture.write_text(svg(curves, table.best))


def train_table(space: Space, data: Path) -> None:
    """Trains every configuration of the grid, packs of equal shape at a time; goes on where it was stopped."""
    import torch

    from nmt.training.packable import shape
    from nmt.training.packed import Member, Pack, train_epoch
    from nmt.training.trainer import Trainer

    torch.set_num_threads(1)
    points, keys = space.grid(), [p.key for p in space.parameters]
    done = TABLE.with_suffix(".partial")
    known = {json.loads(line)["number"] for line in done.read_text().splitlines()} if done.is_file() else set()

    def shape_of(number: int) -> Any:
        return shape(space.configuration(points[number]))

    todo = sorted((n for n in range(len(points)) if n not in known), key=shape_of)
    for _, same in itertools.groupby(todo, key=shape_of):
        while group := list(itertools.islice(same, PACK)):
            trainers = [Trainer(space.configuration(points[n]), data=data) for n in group]
            pack = Pack([Member(n, t, data, None) for n, t in zip(group, trainers, strict=True)])
            values = []
            for _ in range(space.base.train.epochs):
                if train_epoch(pack, lambda: False) is not pack:
                    raise RuntimeError(f"one of {group} diverged")
                values.append([metrics[METRIC] for metrics in pack.evaluate(())])
                for trainer in trainers:
                    trainer.progress.epoch, trainer.progress.step = trainer.progress.epoch + 1, 0
                pack.start_epoch()
            with done.open("a") as file:
                for n, values_E in zip(group, zip(*values, strict=True), strict=True):
                    file.write(json.dumps({"number": n, "values": values_E}) + "\n")
            print(f"{len(done.read_text().splitlines())} of {len(points)}", flush=True)
    rows = sorted((json.loads(line) for line in done.read_text().splitlines()), key=lambda r: r["number"])
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*keys, *range(1, space.base.train.epochs + 1)])
        for r in rows:
            writer.writerow([*(points[r["number"]][k] for k in keys), *(f"{v:.5f}" for v in r["values"])])
    done.unlink()


COLOURS = ("#999999", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e")


def svg(curves: Mapping[str, Sequence[Sequence[float]]], best: float) -> str:
    """The best accuracy so far against trained epochs: the median over seeds."""
    width, height, left, below = 640, 400, 60, 50
    longest = max(statistics.median(len(c) for c in several) for several in curves.values())
    last = int(min(CAP, 1.2 * longest))
    medians = {
        name: [statistics.median(c[min(e, len(c) - 1)] for c in several) for e in range(last)]
        for name, several in curves.items()
    }
    low = math.floor(20 * min(m[min(8, last - 1)] for m in medians.values())) / 20

    def x(epoch: float) -> float:
        return left + math.log10(epoch) / math.log10(last) * (width - left - 20)

    def y(value: float) -> float:
        return height - below - (max(value, low) - low) / (best + 0.005 - low) * (height - below - 20)

    size = f'width="{width}" height="{height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">']
    parts.append(f'<rect {size} fill="white"/>')

    def text(x: float, y: float, content: str, rest: str = 'text-anchor="middle"') -> None:
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {rest}>{content}</text>')

    for percent in range(round(100 * low), round(100 * best) + 1, 5):
        parts.append(f'<path d="M{left} {y(percent / 100):.1f}H{width - 20}" stroke="#eee"/>')
        text(left - 8, y(percent / 100) + 4, f"{percent} %", 'text-anchor="end"')
    for epoch in [e for e in (1, 3, 10, 30, 100, 300, 1000) if e <= last]:
        text(x(epoch), height - below + 18, str(epoch))
    parts.append(f'<path d="M{left} {y(best):.1f}H{width - 20}" stroke="#444" stroke-dasharray="4 3"/>')
    for number, (name, median) in enumerate(medians.items()):
        line = " ".join(f"{x(e + 1):.1f},{y(v):.1f}" for e, v in enumerate(median))
        colour, place = COLOURS[number % len(COLOURS)], height - below - 18 * (len(medians) - number)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        text(width - 30, place, name, f'text-anchor="end" fill="{colour}"')
    text(width / 2, height - 10, "trained epochs, all trials together")
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()

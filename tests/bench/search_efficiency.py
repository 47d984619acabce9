"""How good a configuration a search names after so many trained epochs: ours, and rivals as an expert would set them.

    python tests/bench/search_efficiency.py [--worlds willow parts] [--seeds 20] [--workers 1 4]
    python tests/bench/search_efficiency.py --held-out     # the final figures, on tables that nothing was tuned on

Searches are replayed with their own decision code and no processes (search_methods.py) on real runs or on surrogates
of real runs (search_worlds.py). A search that ended now would name the trial with the highest value it has seen. Its
regret is what this configuration lacks to the best one, in points of accuracy, both without the luck of a seed. So a
trial that was only lucky counts as what it is.

For each target the table has the trained epochs, of all trials together, until the regret is that small and stays so:
the median over seeds. "never" is the share of searches that end with a larger regret. "regret" is its mean at a
quarter, a half and all of the budget, which is 15 full trainings, with a 95 % interval over seeds. "reselected" is the
mean regret where the last third of the budget trains the five highest once more, each with a fresh seed and in full,
and the best mean of both values is named.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from search_methods import METHODS, Method, Run
from search_worlds import DEVELOPMENT, HELD_OUT, Surrogate, World, world_of

TARGETS = (0.5, 1.0, 2.0)
"""points of accuracy"""
FULL_TRAININGS, RESELECTED = 15, 5


@dataclass
class Seen:
    """The highest value that a trial has shown."""

    values: Mapping[str, Any]
    value: float


@dataclass(frozen=True)
class Replay:
    """One search to the end of its budget."""

    regret: tuple[float, ...]
    """after each trained epoch, in points"""
    reselected: float
    """regret where the end of the budget goes to fresh seeds of the best few"""


def replay(method: Method, world: World, seed: int, *, workers: int) -> Replay:
    """Runs a search: every epoch of a training takes as long as any other."""
    epochs = world.space.base.train.epochs
    cap, search_cap = FULL_TRAININGS * epochs, (FULL_TRAININGS - RESELECTED) * epochs
    seen: dict[Any, Seen] = {}
    regret, reselected = list[float](), math.nan
    under_way: list[tuple[int, int, Run]] = []
    order, now = itertools.count(), 0
    while len(regret) < cap:
        while len(under_way) < workers and (run := method.start()) is not None:
            heapq.heappush(under_way, (now + 1, next(order), run))
        if not under_way:
            break
        now, _, run = heapq.heappop(under_way)
        run.epoch += 1
        value = float(world.curve(run.values, seed)[run.epoch - 1])
        key = tuple(sorted(run.values.items()))
        if key not in seen or value > seen[key].value:
            seen[key] = Seen(run.values, value)
        named = max(seen.values(), key=lambda s: s.value)
        regret.append(100 * (world.best - world.truth(named.values)))
        if len(regret) == search_cap:
            reselected = 100 * (world.best - world.truth(reselect(seen, world, seed)))
        if method.report(run, value):
            heapq.heappush(under_way, (now + 1, next(order), run))
    return Replay((*regret, *[regret[-1]] * (cap - len(regret))), reselected)


def reselect(seen: Mapping[Any, Seen], world: World, seed: int) -> Mapping[str, Any]:
    """The best of the highest few, by the mean of what each has shown and what a fresh seed of it shows."""
    highest = sorted(seen.values(), key=lambda s: -s.value)[:RESELECTED]
    fresh = [float(world.curve(s.values, 10**6 + seed).max()) for s in highest]
    return max(zip(highest, fresh, strict=True), key=lambda pair: pair[0].value + pair[1])[0].values


def epochs_to(curve: Sequence[float], target: float) -> float:
    """Trained epochs after which the regret stays within the target; infinite if it does not."""
    above = [place for place, regret in enumerate(curve, start=1) if regret > target]
    last = above[-1] if above else 0
    return last + 1 if last < len(curve) else math.inf


def interval(values: Sequence[float]) -> str:
    """The mean and half of its 95 % interval."""
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):5.2f} ±{half:4.2f}"


def row(name: str, replays: Sequence[Replay]) -> str:
    cells = []
    for target in TARGETS:
        epochs = [epochs_to(r.regret, target) for r in replays]
        never = sum(map(math.isinf, epochs)) / len(epochs)
        median = statistics.median(epochs)
        cells.append(f"{'never' if math.isinf(median) else f'{median:5.0f}'} {never:4.0%}")
    for share in (0.25, 0.5):
        at = round(share * len(replays[0].regret)) - 1
        cells.append(f"{statistics.fmean(r.regret[at] for r in replays):5.2f}")
    cells += [interval([r.regret[-1] for r in replays]), interval([r.reselected for r in replays])]
    return f"{name:28} " + "   ".join(cells)


def against(replays: Sequence[Replay], rival: Sequence[Replay]) -> str:
    """What a method is worth beside a rival over the same seeds: regret at the end, and epochs to the rival's."""
    gain = interval([mine.regret[-1] - other.regret[-1] for mine, other in zip(replays, rival, strict=True)])
    mine, other = (np.mean([r.regret for r in several], axis=0) for several in (replays, rival))
    reached = np.flatnonzero(mine <= other[-1])
    epochs = f"{reached[0] + 1} of {len(other)}" if len(reached) else f"more than {len(other)}"
    return f"regret at the end {gain} points; its mean reaches the rival's last in {epochs} epochs"


def compare(world: World, names: Sequence[str], seeds: range, workers: int) -> dict[str, list[Replay]]:
    """Prints the table of one world; returns the replays of each method."""
    fitted = f", trees explain {world.explained():.0%} of new ones" if isinstance(world, Surrogate) else ""
    print(f"\n{world.name}: best {world.best:.1%}{fitted}; {workers} at once, {len(seeds)} seeds")
    heads = [f"{f'{target:g} p.':>5} never" for target in TARGETS]
    print(f"{'':28} " + "   ".join([*heads, " 25 %", " 50 %", "regret     ", "reselected"]))
    found = {}
    for name in names:
        started = time.process_time()
        found[name] = [replay(METHODS[name](world.space, n), world, n, workers=workers) for n in seeds]
        print(f"{row(name, found[name])}   {(time.process_time() - started) / len(seeds):4.1f} s", flush=True)
    rivals = [name for name in names if not name.startswith("ours")]
    best = min(rivals, key=lambda name: statistics.fmean(r.regret[-1] for r in found[name]), default=None)
    for name in names if best else ():
        if name.startswith("ours"):
            print(f"{name} beside {best}: {against(found[name], found[best])}")
    return found


def curves(world: str, workers: int, found: Mapping[str, Sequence[Replay]]) -> Iterator[list[Any]]:
    """Rows of the curves' file: mean regret after each epoch, and the share of searches above each target."""
    for name, replays in found.items():
        for epoch, regrets in enumerate(np.array([r.regret for r in replays]).T, start=1):
            above = [f"{np.mean(regrets > target):.3f}" for target in TARGETS]
            yield [world, workers, name, epoch, f"{regrets.mean():.3f}", *above]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", nargs="*", choices=DEVELOPMENT, default=list(DEVELOPMENT))
    parser.add_argument("--held-out", action="store_true", help=f"replay {', '.join(HELD_OUT)} instead")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4], help="trials at once")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="write the curves of the mean regret as CSV")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    rows = [["world", "workers", "method", "epoch", "regret", *(f"above {target:g}" for target in TARGETS)]]
    for name in HELD_OUT if args.held_out else args.worlds:
        for workers in args.workers:
            rows += curves(name, workers, compare(world_of(name), args.methods, seeds, workers))
    if args.curves:
        with args.curves.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()

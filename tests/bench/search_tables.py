"""Train many real configurations of a range space, and keep what each reached after every epoch.

    python tests/bench/search_tables.py --data DIR [willow leeds demo parts] [--configurations 320]

DIR holds the prepared data sets that the spaces in search_tables/*.toml name, each by its name and at its image size:

    python run.py --prepare willow_rotated --raw RAW --data DIR/willow_rotated --set data.image_size=128
    python run.py --prepare voc_features --raw RAW --data DIR/voc --set data.image_size=128
    python run.py --prepare demo --data DIR/demo

search_tables/NAME.csv receives one row a training: the searched values, the seed, and the validation accuracy after
each epoch. Configurations are the points of a scrambled Sobol sequence, number 0 is the default one; of a countable
space they are the grid. They train in packs of one seed each. One pack of four trains again with two further seeds,
which measures the noise. One process of one thread; the same command goes on where it was stopped. A training takes
0.3 s (parts) to 1.5 s (demo) of CPU time.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from patches import Patches, train_network
from scipy.stats import qmc

from nmt.training.packable import shape
from nmt.training.packed import Member, Pack, train_epoch
from nmt.training.trainer import Trainer
from tune.spaces.parameter import Parameter
from tune.spaces.read import load_space
from tune.spaces.space import Space

FOLDER = Path(__file__).with_name("search_tables")
METRIC = "val/accuracy"
PACK = 32
"""configurations that train together, with one seed"""
REPEATED_EVERY, REPEATS = 4, 2
"""of so many packs one trains again, with so many further seeds"""


@dataclass(frozen=True)
class Row:
    """One training."""

    number: int
    """of the configuration"""
    seed: int
    values: dict[str, Any]
    """searched values"""
    curve: tuple[float, ...]
    """accuracy after each epoch; after a diverged loss 0"""


def space_of(name: str) -> Space:
    return load_space(FOLDER / f"{name}.toml")


def read_rows(name: str) -> list[Row]:
    """All trainings of a table; empty where none was made."""
    path, space = FOLDER / f"{name}.csv", space_of(name)
    if not path.is_file():
        return []
    epochs = range(1, space.base.train.epochs + 1)
    with path.open() as file:
        return [
            Row(
                number=int(row["configuration"]),
                seed=int(row["seed"]),
                values={p.key: p.type(row[p.key]) for p in space.parameters},
                curve=tuple(float(row[str(e)]) for e in epochs),
            )
            for row in csv.DictReader(file)
        ]


def write_rows(name: str, rows: Sequence[Row]) -> None:
    space, text = space_of(name), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [p.key for p in space.parameters]
    writer.writerow(["configuration", "seed", *keys, *range(1, space.base.train.epochs + 1)])
    for row in sorted(rows, key=lambda r: (r.number, r.seed)):
        shown = [f"{v:.5g}" if isinstance(v, float) else v for v in (row.values[k] for k in keys)]
        writer.writerow([row.number, row.seed, *shown, *(f"{value:.4f}" for value in row.curve)])
    partial = FOLDER / f".{name}.csv.partial"
    partial.write_text(text.getvalue())
    partial.replace(FOLDER / f"{name}.csv")


def drawn(space: Space, count: int) -> list[dict[str, Any]]:
    """The default configuration and the first `count` - 1 points of a Sobol sequence, as written; or a whole grid."""
    if space.size is not None:
        return space.grid()
    sequence = qmc.Sobol(len(space.parameters), scramble=True, rng=0)
    points = sequence.random_base2(math.ceil(math.log2(count)))
    found = [{p.key: value_at(p, u) for p, u in zip(space.parameters, point, strict=True)} for point in points]
    return [space.default_params, *found[: count - 1]]


def value_at(parameter: Parameter, place: float) -> Any:
    """The value at a place of [0, 1) of a list, or of a range on its scale."""
    if parameter.values is not None:
        return parameter.values[int(place * len(parameter.values))]
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None
    if parameter.type is int:  # half a step more on both sides, so that the ends are as likely as the rest
        low, high = low - 0.5, high + 0.5
    value = low * (high / low) ** place if parameter.log else low + place * (high - low)
    return round(value) if parameter.type is int else float(f"{value:.5g}")


def packs(space: Space, configurations: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, list[int]]]:
    """Every (seed, configurations) of a table, in the order in which they train; heads of one shape together."""
    grid, of_heads = space.size is not None, space.base.data.mode == "features"
    shapes = [shape(space.configuration(values)) if of_heads else () for values in configurations]
    for alike in dict.fromkeys(shapes):
        numbers = [n for n, own in enumerate(shapes) if own == alike]
        for pack in range(math.ceil(len(numbers) / PACK)):
            seeds = [0] if grid else [pack] if pack % REPEATED_EVERY else [pack + 1000 * r for r in range(REPEATS + 1)]
            yield from ((seed, numbers[pack * PACK : (pack + 1) * PACK]) for seed in seeds)


def train_heads(space: Space, several: Sequence[Mapping[str, Any]], seed: int, data: Path) -> list[list[float]]:
    """Trains matching heads packed; a curve for each."""
    epochs = space.base.train.epochs
    trainers = [Trainer(space.configuration({**values, "train.seed": seed}), data=data) for values in several]
    pack: Pack | None = Pack([Member(n, t, data, None) for n, t in enumerate(trainers)])  # type: ignore[arg-type]
    curves: list[list[float]] = [[] for _ in several]
    for epoch in range(1, epochs + 1):
        pack = train_epoch(pack, lambda: False)
        if pack is None:
            break
        for member, metrics in zip(pack.members, pack.evaluate(()), strict=True):
            curves[member.index].append(float(metrics[METRIC]))
            member.trainer.progress.epoch, member.trainer.progress.step = epoch, 0
        pack.start_epoch()
    return [curve + [0.0] * (epochs - len(curve)) for curve in curves]


def make(name: str, data: Path, count: int) -> Iterator[None]:
    """Trains what is missing of a table, a pack a step."""
    space = space_of(name)
    folder = data / space.base.data.name
    of_heads = space.base.data.mode == "features"
    patches = None if of_heads else Patches.of(folder)
    configurations = drawn(space, count)
    for seed, numbers in packs(space, configurations):
        rows = read_rows(name)
        known = {(row.number, row.seed) for row in rows}
        missing = [n for n in numbers if (n, seed) not in known]
        if not missing:
            continue
        started = time.process_time()
        several = [configurations[n] for n in missing]
        if patches is None:
            curves = train_heads(space, several, seed, folder)
        else:
            curves = [train_network(space.configuration(values), patches, seed) for values in several]
        rows += [Row(n, seed, v, tuple(c)) for n, v, c in zip(missing, several, curves, strict=True)]
        write_rows(name, rows)
        best = max(max(row.curve) for row in rows)
        cost = (time.process_time() - started) / len(missing)
        print(f"{name}: {len(rows)} trainings, best {best:.1%}, {cost:.2f} CPU s a training", flush=True)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    parser.add_argument("names", nargs="*", default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--data", type=Path, required=True, help="folder of the prepared data sets")
    parser.add_argument("--configurations", type=int, default=320)
    parser.add_argument("--packs", type=int, default=0, help="stop each table after so many packs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if unknown := set(args.names) - set(known):
        parser.error(f"no such table: {', '.join(unknown)}; known: {', '.join(known)}")
    making = [make(name, args.data, args.configurations) for name in args.names]
    turn = 0
    while making and not 0 < args.packs <= turn:  # in turn, so that all tables grow together
        making = [table for table in making if next(table, True) is None]
        turn += 1


if __name__ == "__main__":
    main()

"""What training on frozen features tells of training on images: the same configurations at both, on real photographs.

    python tests/bench/fidelity.py                 # the table of what has been measured
    python tests/bench/fidelity.py --raw DIR       # measures what is missing on a VOC data set, an hour on two cores

Each training's accuracy is written to fidelity_table.json beside this file as it ends. A head on
efficientnet_lite0 at 128 pixels; category `person` of Leeds Sports photographs where measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from fidelity_table import MEASURED, Measured, Measurement
from record import record

from nmt.config import Config, with_overrides
from nmt.recipes import recipe
from tune.spaces.fidelity import HIGH, LOW

BASE: dict[str, Any] = {"data.image_size": 128, "data.eval_pairs": 250, "optim.lr": 2e-3, "optim.milestones": []}
STAGES: dict[str, dict[str, Any]] = {
    LOW: {"data.mode": LOW, "data.pairs_per_step": 16, "train.epochs": 1, "train.steps_per_epoch": 160},
    HIGH: {"data.mode": HIGH, "data.pairs_per_step": 8, "train.epochs": 1, "train.steps_per_epoch": 80},
}
CHANGES: list[dict[str, Any]] = [
    {},
    *({"optim.lr": value} for value in (5e-4, 8e-3)),
    *({"loss.temperature": value} for value in (0.02, 0.5)),
    *({"loss.hyperspherical": value} for value in (0.0, 2.0)),
    {"loss.layer": 1.0},
    {"model.decoder_layers": 1},
    {"loss.hyperspherical": 0.0, "loss.layer": 0.0},
]


def configuration(fidelity: str, changes: Mapping[str, Any], seed: int) -> Config:
    overrides = BASE | STAGES[fidelity] | changes | {"train.seed": seed}
    return with_overrides(recipe("voc_features"), overrides, source="the bench")


def measure(fidelity: str, changes: dict[str, Any], seed: int, data: Path) -> Measurement:
    import torch

    from nmt.training.loop import train

    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        best = train(configuration(fidelity, changes, seed), data=data, directory=Path(directory))
    accuracy, seconds = float(best.metrics["val/accuracy"]), time.perf_counter() - started
    return Measurement(fidelity=fidelity, changes=changes, seed=seed, accuracy=accuracy, seconds=round(seconds, 1))


def measure_missing(measured: Measured, data: Path, seeds: int, path: Path) -> Measured:
    """Trains what `measured` lacks, as many at once as there are cores, and keeps each result in `path`."""
    missing = [
        (fidelity, changes, seed)
        for seed in range(seeds)
        for fidelity in (HIGH, LOW)
        for changes in CHANGES
        if seed not in measured.accuracy(fidelity, changes)
    ]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=spawn) as pool:
        for done in as_completed([pool.submit(measure, *job, data) for job in missing]):
            row = done.result()
            measured = Measured(measured.settings, [*measured.rows, row])
            measured.save(path)
            print(
                f"{row.fidelity:9} seed {row.seed}  {row.accuracy:6.1%}  {row.seconds:6.1f} s  {shown(row.changes)}",
                flush=True,
            )
    return measured


def prepare(raw: Path, data: Path) -> None:
    """The VOC data set at the bench's size, with features."""
    size = f"data.image_size={BASE['data.image_size']}"
    command = ["run.py", "--prepare", "voc_features", "--raw", str(raw), "--data", str(data), "--set", size]
    subprocess.run([sys.executable, *command], check=True)


def shown(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in changes.items()) or "base"


def report(measured: Measured) -> str:
    """The table, the rank correlation and what it is worth, for each parameter too."""
    configurations = sorted(measured.configurations(), key=lambda c: -measured.mean(HIGH, c))
    seeds, floor = measured.seeds, measured.floor
    lines = [f"{LOW:>10}{HIGH:>10}   best on images first; means over {seeds[LOW]} and {seeds[HIGH]} seeds"]
    lines += [f"{measured.mean(LOW, c):10.1%}{measured.mean(HIGH, c):10.1%}   {shown(c)}" for c in configurations]
    rank = measured.rank()
    if rank is None:
        return "\n".join([*lines, "too few configurations at both fidelities for a rank correlation"])
    lines.append(f"Spearman {rank.correlation:.2f} over {rank.count} configurations (p {rank.p_value:.2g})")
    top = configurations[: max(2, len(configurations) // 3)]
    for fidelity in (LOW, HIGH):
        noise = measured.noise(fidelity)
        if noise is not None:
            lines.append(f"one training of {fidelity}: ± {100 * noise:.1f} points over seeds (standard deviation)")
    spread = measured.mean(HIGH, configurations[0]) - measured.mean(HIGH, top[-1])
    if spread < floor:
        lines.append(
            f"The best {len(top)} on images lie within {100 * spread:.1f} points of each other: within noise, no order"
        )
    lines.append(
        f"Pairs of values of one parameter, all else equal (differences under {100 * floor:g} points tell nothing):"
    )
    for key in sorted({key for changes in CHANGES for key in changes}):
        order = measured.order(key)
        if order is not None:
            counts = f"{order.alike} alike, {order.reversed} reversed, {order.within_noise} within noise"
            lines.append(f"  {key:22} {counts}: {order.words}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, help="a VOC data set: measure what is missing")
    parser.add_argument("--data", type=Path, default=Path("data/voc-fidelity"), help="where it is prepared")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=MEASURED, help="another file: measured anew")
    parser.add_argument("--record", action="store_true", help="write the figures to RESULTS.md")
    args = parser.parse_args()
    settings = {"base": BASE, **STAGES}
    measured = Measured.load(args.out) if args.out.is_file() else Measured(settings, [])
    if measured.settings != settings:
        raise SystemExit(f"{args.out}: measured with other settings; give another --out, or remove it")
    if args.raw is not None:
        prepare(args.raw, args.data)
        measured = measure_missing(measured, args.data, args.seeds, args.out)
    print(report(measured))
    if args.record:
        rank = measured.rank()
        if rank is None:
            raise SystemExit("too few configurations at both fidelities to record")
        found = f"{rank.correlation:.2f} over {rank.count} configurations (p {rank.p_value:.2g})"
        record({"Spearman of accuracy on features and on images": found})


if __name__ == "__main__":
    main()

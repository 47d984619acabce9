"""Trainings packed in one process against the same one after another, and against two processes at once.

    python tests/bench/packed.py [--data data/willow_rotated] [--numbers 1 4 16] [--epochs 2] [--steps 10]

The head of search_spaces/willow_rotated.toml on stored features; members differ in learning rate, temperature and loss
weights. Seconds are the clock's, of whole trainings: data, steps, validation, checkpoints, pictures. One thread each.

Seen on two idle cores, in ms a training and step, and the largest difference of a weight and of validation accuracy:

    trainings  packed      alone       ratio  two at once  ratio  weights  accuracy
            1     390 ms     345 ms       0.88       370 ms   0.95  5.7e-07  0.0e+00
            4     296 ms     340 ms       1.15       162 ms   0.55  2.3e-03  1.7e-04
           16     275 ms     269 ms       0.98       138 ms   0.50  1.5e-02  1.8e-04

The work of a step is arithmetic, which a pack does not make less, so it does not pay here. After 10 steps all weights
of 9 members agree to 3e-6; after 20 spline weights of one member of 4 do not, to be expected where rounding switches a
unit (not traced).
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch

from nmt.config import Config, with_overrides
from nmt.training.history import read_metrics
from nmt.training.loop import train
from nmt.training.packed import train_packed
from tune.spaces.read import load_space


def configurations(base: Config, number: int) -> list[Config]:
    own = [
        {"optim.lr": 5e-4 * 1.2**k, "loss.temperature": 0.05 * 1.1**k, "loss.hyperspherical": k % 3 / 2}
        for k in range(number)
    ]
    return [with_overrides(base, values, source="bench") for values in own]


def alone(configs: list[Config], data: Path, directories: list[Path]) -> None:
    torch.set_num_threads(1)
    for config, directory in zip(configs, directories, strict=True):
        train(config, data=data, directory=directory)


def packed(configs: list[Config], data: Path, directories: list[Path]) -> None:
    torch.set_num_threads(1)
    train_packed(configs, data=data, directories=directories)


def two_at_once(configs: list[Config], data: Path, directories: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    halves = [context.Process(target=alone, args=(configs[i::2], data, directories[i::2])) for i in range(2)]
    for process in halves:
        process.start()
    for process in halves:
        process.join()
        assert process.exitcode == 0


def differences(one: list[Path], other: list[Path]) -> tuple[float, float]:
    """The largest difference of any weight, and of validation accuracy after any epoch."""
    weights = accuracy = 0.0
    for a, b in zip(one, other, strict=True):
        states = [torch.load(d / "checkpoint.pt", weights_only=True)["model"] for d in (a, b)]
        weights = max(weights, *(float((states[0][k] - states[1][k]).abs().max()) for k in states[0]))
        pairs = zip(read_metrics(a), read_metrics(b), strict=True)
        accuracy = max(accuracy, *(abs(m["val/accuracy"] - n["val/accuracy"]) for m, n in pairs))
    return weights, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/willow_rotated"))
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 4, 16], help="trainings")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="an epoch")
    args = parser.parse_args()
    changes = {"train.epochs": args.epochs, "train.steps_per_epoch": args.steps}
    base = with_overrides(load_space("willow_rotated").base, changes, source="bench")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        alone(configurations(base, 1), args.data, [root / "warm-up"])
        print(
            "trainings  packed      alone       ratio  two at once  ratio  weights  accuracy   (ms a training and step)"
        )
        for number in args.numbers:
            configs = configurations(base, number)
            folders = {how: [root / f"{how}{number}-{k}" for k in range(number)] for how in ("p", "a", "t")}
            seconds = []
            for run, how in ((packed, "p"), (alone, "a"), (two_at_once, "t")):
                started = time.perf_counter()
                run(configs, args.data, folders[how])
                seconds.append(time.perf_counter() - started)
            together, one, two = (1000 * s / (number * args.epochs * args.steps) for s in seconds)
            weights, accuracy = differences(folders["p"], folders["a"])
            print(
                f"{number:9}  {together:6.0f} ms  {one:6.0f} ms"
                f"  {one / together:9.2f}  {two:8.0f} ms  {two / together:5.2f}"
                f"  {weights:.1e}  {accuracy:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()

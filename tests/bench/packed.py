"""Trials an hour of a search on features, packed in one process and one after the other.

    python tests/bench/packed.py [--device cuda|cpu] [--numbers 4 16] [--epochs 8] [--steps 20] [--data DIR] [--record]

The head of search_spaces/willow_rotated.toml; members differ in learning rate, temperature and loss weights. Seconds
are the clock's, of whole trainings: data, steps, validation, checkpoints. Without --data, keypoints and features are
made up, in the size of that data set. One thread. It imports nmt alone: neither Ray nor Optuna is needed.

On a CPU with two cores or more, two processes at once are measured too. A GPU takes a minute with these numbers, two
cores ten minutes: there --epochs 1 --steps 20 --numbers 4 tells the same.

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
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from record import record

from nmt.config import Config, with_overrides
from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION
from nmt.data.store.features import _SCHEMA, SAMPLING, features_path
from nmt.data.store.objects import OBJECTS_FILE, ObjectStore, StoreInfo
from nmt.data.store.writer import ObjectWriter, RawObject
from nmt.device import pick_device
from nmt.recipes import recipe
from nmt.training.history import read_metrics
from nmt.training.loop import train
from nmt.training.packed import train_packed

CATEGORIES = {f"category{c}": [f"k{k}" for k in range(10)] for c in range(5)}
OBJECTS = {"train": 20, "val": 6}
"""objects of each category"""
CHANNELS, GLOBAL = 152, 320
"""widths of the features at a keypoint and of a whole image"""


def configurations(base: Config, number: int) -> list[Config]:
    own = [
        {"optim.lr": 5e-4 * 1.2**k, "loss.temperature": 0.05 * 1.1**k, "loss.hyperspherical": k % 3 / 2}
        for k in range(number)
    ]
    return [with_overrides(base, values, source="bench") for values in own]


def make_data(config: Config, directory: Path) -> Path:
    """Make a data set of objects with random keypoints and features."""
    directory.mkdir()
    rng, size = np.random.default_rng(0), config.data.image_size
    writer = ObjectWriter(directory / OBJECTS_FILE, CATEGORIES, image_size=size, image_coding="jpeg")
    for split, number in OBJECTS.items():
        for category, names in CATEGORIES.items():
            for k in range(number):
                points = {name: tuple(rng.uniform(0, size, 2)) for name in names}
                image, name = np.zeros((size, size, 3), np.uint8), f"{category}/{split}{k}"
                writer.add(RawObject(name, category, split, name, image, points))
    writer.finish(
        StoreInfo(
            name=config.data.name, keypoint_names=CATEGORIES, image_size=size, image_coding="jpeg", options={}, seed=0,
            fingerprint="0", counts=writer.counts, left_out={},
        )
    )  # fmt: skip
    writer.close()
    store, path = ObjectStore.open(directory), features_path(directory, config.model, size)
    path.parent.mkdir()
    info = {"version": SCHEMA_VERSION, "channels": CHANNELS, "global_channels": GLOBAL, "sampling": SAMPLING}
    info["data_set"] = store.info.identity
    schema = _SCHEMA.with_metadata({METADATA_KEY: json.dumps(info).encode()})
    with pa.ipc.new_file(str(path), schema) as file:
        for row in range(len(store)):
            nodes = rng.standard_normal(len(store.keypoints(row)) * CHANNELS).astype(np.float16)
            content = [{"nodes": nodes, "global": rng.standard_normal(GLOBAL).astype(np.float32)}]
            file.write_batch(pa.RecordBatch.from_pylist(content, schema=schema))
    return directory


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


Way = Callable[[list[Config], Path, list[Path]], None]


class Bench:
    """Runs trainings of one recipe on one data set, each in a folder of its own below `root`."""

    def __init__(self, base: Config, data: Path, root: Path) -> None:
        self.base, self.data, self.root = base, data, root

    def folders(self, name: str, number: int) -> list[Path]:
        return [self.root / f"{name}{number}-{k}" for k in range(number)]

    def per_hour(self, name: str, way: Way, number: int) -> float:
        """Trainings an hour in this way; prints the time of a step too."""
        started = time.perf_counter()
        way(configurations(self.base, number), self.data, self.folders(name, number))
        seconds = (time.perf_counter() - started) / number
        steps = self.base.train.epochs * self.base.train.steps_per_epoch
        print(
            f"{name:12} {number:3} trainings  {3600 / seconds:8.0f} an hour  {1000 * seconds / steps:7.1f} ms a step",
            flush=True,
        )
        return 3600 / seconds


def measure(bench: Bench, numbers: list[int], apart: int, device: str) -> dict[str, str]:
    """Measure each way; return what is recorded."""
    bench.per_hour("warm-up", alone, 1)
    one = bench.per_hour("alone", alone, apart)
    figures = {"one after the other": f"{one:.0f} trainings an hour"}
    if device == "cpu" and len(os.sched_getaffinity(0)) > 1:
        two = bench.per_hour("two at once", two_at_once, 2)
        figures["in two processes at once"] = f"{two:.0f} ({two / one:.2f} times as many)"
    for number in numbers:
        many = bench.per_hour("packed", packed, number)
        same = min(apart, number)
        weights, accuracy = differences(bench.folders("packed", number)[:same], bench.folders("alone", apart)[:same])
        print(f"    largest difference from alone: weights {weights:.1e}, accuracy {accuracy:.1e}")
        figures[f"{number} packed"] = f"{many:.0f} ({many / one:.2f} times as many)"
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: a GPU if there is one")
    parser.add_argument("--numbers", type=int, nargs="+", default=[4, 16], help="trainings of a pack")
    parser.add_argument("--alone", type=int, default=2, help="trainings one after the other")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="an epoch")
    parser.add_argument("--data", type=Path, help="a prepared data set willow_rotated with its features")
    parser.add_argument("--record", action="store_true", help="write the figures to RESULTS.md")
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks: a training takes a GPU that it sees
    device = pick_device().type
    if args.device not in (None, device):
        parser.error(f"--device {args.device}: this machine has none")
    changes = {"train.epochs": args.epochs, "train.steps_per_epoch": args.steps, "train.loggers": []}
    if args.data is None:
        changes["model.weights"] = "random"  # the features that are made up are nobody's
    base = with_overrides(recipe("willow_rotated"), changes, source="bench")
    print(f"trainings of {args.epochs} epochs of {args.steps} steps of {base.data.pairs_per_step} pairs, {device}")
    with tempfile.TemporaryDirectory() as place:
        data = args.data or make_data(base, Path(place) / "data")
        figures = measure(Bench(base, data, Path(place)), args.numbers, args.alone, device)
    if args.record:
        record(figures)


if __name__ == "__main__":
    main()

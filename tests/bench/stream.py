"""How fast the data path is, on one core, side by side with the plain way to do it.

    python tests/bench/stream.py [images|features|epochs|open|memory ...] [--seconds 3] [--objects 10000000] [--record]

images    pairs a second at 384 pixels, with augmentation, of a data set of raw and of JPEG images; beside them the
          plain way: open, decode, cut out, resize and normalise both photographs, SciPy Delaunay, PyG batch
features  pairs a second of stored backbone features of paper size (2048 and 1024)
epochs    the time between the end of an epoch and the first batch of the next, with loader processes that live on, and
          with new ones
open      opening a data set of many objects, with its index by split and category
memory    eight loader processes on one data set against one, in proportional set size

RESULTS.md holds what was measured. The published code's loader gave 27.6 pairs/s on one core where the plain way gave
105. Opening 10,000,000 objects took 0.003 s, and reading all of the index 0.03 s and 79 MB of pages that all processes
share.

So images are stored raw by default: decoding three JPEGs a pair (two, and what is mixed in) costs more than ten times
all the rest. Accuracy does not decide: a head trained on features of 1,182 photographs of PascalVOC reached 39.2 and
39.9 % (two seeds) from raw images, 41.4 and 39.6 % from JPEG, which is the spread of seeds.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageFilter
from record import record

from nmt.config import DataConfig
from nmt.data.graph import delaunay_edges
from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION
from nmt.data.store.features import _SCHEMA as FEATURES_SCHEMA
from nmt.data.store.features import FeatureTable
from nmt.data.store.objects import _SCHEMA, INDEX_FILE, OBJECTS_FILE, SPLITS, ObjectStore, StoreInfo, write_index
from nmt.data.store.writer import ObjectWriter, RawObject
from nmt.data.stream.loader import Steps, TrainLoader
from nmt.data.stream.pairs import PairStream

SIZE, PAIRS_PER_STEP = 384, 8
CATEGORIES = {f"category{c}": [f"k{k}" for k in range(10)] for c in range(4)}
PHOTOS = 25
"""a category"""
LOADERS = 8

Figures = dict[str, str]
"""what was measured -> the figure with its unit"""


def photograph(rng: np.random.Generator) -> bytes:
    """A made-up photograph as heavy as one of PascalVOC: 500 x 375, about 100 kB of JPEG."""
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375), Image.BICUBIC)
    noise = Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(0.9))
    buffer = io.BytesIO()
    Image.blend(coarse, noise, 0.35).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def make_photographs(folder: Path) -> None:
    """Photographs, and their keypoints inside a box, in pixels."""
    rng = np.random.default_rng(0)
    annotations = {}
    for category, names in CATEGORIES.items():
        for k in range(PHOTOS):
            photo = f"{category}-{k}"
            (folder / f"{photo}.jpg").write_bytes(photograph(rng))
            present = sorted(rng.choice(len(names), int(rng.integers(7, len(names) + 1)), replace=False).tolist())
            points = {names[i]: rng.uniform([60, 60], [440, 315]).tolist() for i in present}
            annotations[photo] = {"category": category, "box": [50, 50, 450, 325], "points": points}
    (folder / "points.json").write_text(json.dumps(annotations))


def store_info(**values: Any) -> StoreInfo:
    return StoreInfo(
        name="bench",
        keypoint_names=CATEGORIES,
        image_size=SIZE,
        options={},
        seed=0,
        fingerprint="0",
        left_out={},
        **values,
    )


def make_store(photographs: Path, directory: Path, coding: str) -> ObjectStore:
    directory.mkdir()
    writer = ObjectWriter(directory / OBJECTS_FILE, CATEGORIES, image_size=SIZE, image_coding=coding)
    for photo, item in json.loads((photographs / "points.json").read_text()).items():
        image, points = cut_out(photographs / f"{photo}.jpg", item)
        writer.add(RawObject(photo, item["category"], "train", photo, np.asarray(image), points))
    writer.finish(store_info(image_coding=coding, counts=writer.counts))
    writer.close()
    return ObjectStore.open(directory)


def cut_out(path: Path, item: dict[str, Any]) -> tuple[Image.Image, dict[str, tuple[float, float]]]:
    """The object as a square image, and its keypoints in it."""
    x0, y0, x1, y1 = item["box"]
    with Image.open(path) as file:
        image = file.convert("RGB").crop((x0, y0, x1, y1)).resize((SIZE, SIZE), Image.BICUBIC)
    points = {n: ((x - x0) * SIZE / (x1 - x0), (y - y0) * SIZE / (y1 - y0)) for n, (x, y) in item["points"].items()}
    return image, points


def plain_pairs(photographs: Path) -> Iterator[int]:
    """Batches the plain way, without any augmentation; yields pairs done."""
    from torch_geometric.data import Batch, Data
    from torchvision import transforms

    normalise = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    annotations = json.loads((photographs / "points.json").read_text())
    rng = np.random.default_rng(0)

    def side(photo: str, names: list[str]) -> tuple[torch.Tensor, Any]:
        image, points = cut_out(photographs / f"{photo}.jpg", annotations[photo])
        points_N2 = np.array([points[name] for name in names], np.float32)
        edges_2E = delaunay_edges(points_N2).astype(np.int64)
        attributes = 0.5 + 0.5 * (points_N2[edges_2E[0]] - points_N2[edges_2E[1]]) / SIZE
        graph = Data(
            pos=torch.from_numpy(points_N2),
            edge_index=torch.from_numpy(edges_2E),
            edge_attr=torch.from_numpy(attributes),
        )
        return normalise(image), graph

    while True:
        pairs = []
        for _ in range(PAIRS_PER_STEP):
            category = list(CATEGORIES)[rng.integers(len(CATEGORIES))]
            photos = [f"{category}-{k}" for k in rng.choice(PHOTOS, 2, replace=False)]
            common = sorted(set(annotations[photos[0]]["points"]) & set(annotations[photos[1]]["points"]))
            pairs.append([side(photo, rng.permutation(common).tolist()) for photo in photos])
        for s in range(2):
            torch.stack([pair[s][0] for pair in pairs])
            Batch.from_data_list([pair[s][1] for pair in pairs])
        yield PAIRS_PER_STEP


def stream_pairs(stream: PairStream) -> Iterator[int]:
    """Training batches in this process; yields pairs done."""
    steps = Steps(stream=stream, steps_per_epoch=10**9, pairs_per_step=PAIRS_PER_STEP)
    for _ in TrainLoader(steps, epochs=1).epoch(0):
        yield PAIRS_PER_STEP


def rate(pairs: Iterator[int], seconds: float) -> float:
    """Pairs a second of processor time, so that a busy machine does not matter; the first five batches are warm-up."""
    for _ in range(5):
        next(pairs)
    done, started = 0, time.process_time()
    while (elapsed := time.process_time() - started) < seconds:
        done += next(pairs)
    return done / elapsed


def bench_images(folder: Path, args: argparse.Namespace) -> Figures:
    photographs = folder / "photographs"
    photographs.mkdir()
    make_photographs(photographs)
    config = DataConfig(name="bench", mode="images", image_size=SIZE)
    plain = rate(plain_pairs(photographs), args.seconds)
    print(f"images    plain way, no augmentation   {plain:8.1f} pairs/s")
    figures = {"the plain way without augmentation": f"{plain:.0f} pairs/s"}
    for coding in ("jpeg", "raw"):
        store = make_store(photographs, folder / coding, coding)
        megabytes = (folder / coding / OBJECTS_FILE).stat().st_size / 1e6 / len(store)
        speed = rate(stream_pairs(PairStream(store, config, split="train", seed=0)), args.seconds)
        print(
            f"images    stream, {coding:4}, augmentation   {speed:8.1f} pairs/s   x {speed / plain:.1f}"
            f"   ({megabytes:.3f} MB an object)"
        )
        figures[f"stream of {coding} images"] = f"{speed:.0f} pairs/s (x {speed / plain:.1f})"
    return figures


def make_features(store: ObjectStore) -> FeatureTable:
    rng = np.random.default_rng(1)
    path = store.directory / "features.arrow"
    info = {"version": SCHEMA_VERSION, "channels": 2048, "global_channels": 1024, "data_set": store.info.identity}
    schema = FEATURES_SCHEMA.with_metadata({METADATA_KEY: json.dumps(info).encode()})
    with pa.ipc.new_file(str(path), schema) as file:
        for row in range(len(store)):
            nodes = rng.random(len(store.keypoints(row)) * 2048).astype(np.float16)
            content = [{"nodes": nodes, "global": rng.random(1024).astype(np.float32)}]
            file.write_batch(pa.RecordBatch.from_pylist(content, schema=schema))
    return FeatureTable(path, remedy="")


def made_up_objects(num: int) -> Iterator[RawObject]:
    """Objects whose images are black."""
    rng = np.random.default_rng(0)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for k in range(num):
        category = f"category{k % len(CATEGORIES)}"
        names = CATEGORIES[category]
        present = rng.choice(len(names), int(rng.integers(7, len(names) + 1)), replace=False)
        points = {names[i]: tuple(rng.uniform(0, SIZE, 2)) for i in present}
        yield RawObject(str(k), category, "train", str(k), image, points)


def bench_features(folder: Path, args: argparse.Namespace) -> Figures:
    folder = folder / "objects"
    folder.mkdir()
    writer = ObjectWriter(folder / OBJECTS_FILE, CATEGORIES, image_size=SIZE, image_coding="jpeg")
    for raw in made_up_objects(2000):
        writer.add(raw)
    writer.finish(store_info(image_coding="jpeg", counts=writer.counts))
    writer.close()
    store = ObjectStore.open(folder)
    config = DataConfig(name="bench", mode="features", image_size=SIZE)
    stream = PairStream(store, config, split="train", seed=0, features=make_features(store))
    first = rate(stream_pairs(stream), args.seconds)
    again = rate(stream_pairs(stream), args.seconds)
    print(f"features  stream                       {first:8.1f} pairs/s   {again:8.1f} when the graphs come again")
    return {"stream of features": f"{first:.0f} pairs/s, {again:.0f} when the graphs come again"}


def bench_epochs(folder: Path, args: argparse.Namespace) -> dict[str, str]:
    photographs = folder / "photographs_of_epochs"
    photographs.mkdir()
    make_photographs(photographs)
    store = make_store(photographs, folder / "epochs", "raw")
    stream = PairStream(store, DataConfig(name="bench", mode="images", image_size=SIZE), split="train", seed=0)
    steps = Steps(stream=stream, steps_per_epoch=20, pairs_per_step=PAIRS_PER_STEP)
    figures = dict[str, str]()
    for name, anew in (("new processes", True), ("the same", False)):
        loader, waits, started = TrainLoader(steps, epochs=6, processes=LOADERS), [], 0.0
        for epoch in range(6):
            for step, _ in enumerate(loader.epoch(epoch)):
                if step == 0 and epoch:
                    waits.append(time.perf_counter() - started)
            started = time.perf_counter()
            if anew:
                loader.close()
        loader.close()
        print(f"epochs    {name:13} first batch of an epoch after {statistics.median(waits):.3f} s")
        figures[f"first batch of an epoch, {name}"] = f"{statistics.median(waits):.3f} s"
    return figures


def write_large(path: Path, num: int) -> None:
    """A data set of `num` objects, PascalVOC's twenty categories over and over, with images of no pixels."""
    names = {f"category{c:02}": [f"k{k}" for k in range(10)] for c in range(20)}
    rng = np.random.default_rng(0)
    counts = {split: dict.fromkeys(names, num // 60) for split in SPLITS}
    info = StoreInfo(
        name="large",
        keypoint_names=names,
        image_size=SIZE,
        image_coding="raw",
        options={},
        seed=0,
        fingerprint="0",
        left_out={},
        counts=counts,
    )
    schema = _SCHEMA.with_metadata({METADATA_KEY: info.to_json()})
    rows = 4096
    points = pa.array(rng.random((rows, 20)).astype(np.float32).tolist(), pa.list_(pa.float32()))
    keypoints = pa.array([list(range(10))] * rows, pa.list_(pa.int16()))
    edges = pa.array(rng.integers(0, 10, (rows, 40)).tolist(), pa.list_(pa.int16()))
    images = pa.array([b""] * rows, pa.binary())
    sizes = pa.array([[SIZE, SIZE, 0, 0]] * rows, pa.list_(pa.float32()))
    with pa.ipc.new_file(str(path), schema) as file:
        for first in range(0, num, rows):
            n = min(rows, num - first)
            batch = [
                pa.array([f"category/{k:08}" for k in range(first, first + n)]),
                pa.array(rng.integers(0, 20, n, dtype=np.int16)),
                pa.array(rng.integers(0, 3, n, dtype=np.int8)),
                pa.array(np.arange(first, first + n, dtype=np.int32)),
                *(column.slice(0, n) for column in (images, keypoints, points, edges, sizes)),
            ]
            file.write_batch(pa.RecordBatch.from_arrays(batch, schema=schema))
    write_index(path, path.with_name(INDEX_FILE))


def resident_kilobytes() -> int:
    """Resident memory of this process, mapped pages included."""
    return int(next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmRSS")).split()[1])


def open_large(directory: Path, answer: Any) -> None:
    """Opens, indexes and reads one object, in a process of its own."""
    before = resident_kilobytes()
    started = time.perf_counter()
    store = ObjectStore.open(directory)
    opened = time.perf_counter()
    rows = [rows for split in SPLITS for rows in store.rows(split)]
    assert sum(int(of_group.sum()) for of_group in rows) == len(store) * (len(store) - 1) // 2  # reads all of the index
    indexed = time.perf_counter()
    store.points(int(rows[3][-1]))
    answer.send((opened - started, indexed - opened, resident_kilobytes() - before, resident_kilobytes(), len(store)))


def in_fresh_process(function: Callable[..., None], *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=function, args=(*arguments, there))
    process.start()
    answer = here.recv()
    process.join()
    return answer


def bench_open(folder: Path, args: argparse.Namespace) -> Figures:
    directory = folder / "large"
    directory.mkdir()
    write_large(directory / OBJECTS_FILE, args.objects)
    gigabytes = (directory / OBJECTS_FILE).stat().st_size / 1e9
    figures = {}
    for state in ("first time", "again"):
        opening, indexing, grown, resident, num = in_fresh_process(open_large, directory)
        print(
            f"open      {num} objects, {gigabytes:.1f} GB, {state}: open {opening:.3f} s, index {indexing:.3f} s, "
            f"memory + {grown / 1024:.0f} MB (process: {resident / 1024:.0f} MB)"
        )
        figures[f"open {num} objects, {state}"] = f"{opening:.3f} s, index {indexing:.3f} s, + {grown / 1024:.0f} MB"
    return figures


def proportional_kilobytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def read_everything(directory: Path, ready: Any, answer: Any) -> None:
    """Every row of the data set, then this process's share of the memory while all the others hold theirs."""
    store = ObjectStore.open(directory)
    before = proportional_kilobytes()
    total = sum(int(store.image(row)[::64].sum()) + len(store.points(row)) for row in range(len(store)))
    ready.wait()
    answer.put((proportional_kilobytes() - before, total))
    ready.wait()


def bench_memory(folder: Path, args: argparse.Namespace) -> Figures:
    directory = folder / "memory"
    directory.mkdir()
    writer = ObjectWriter(directory / OBJECTS_FILE, CATEGORIES, image_size=SIZE, image_coding="raw")
    for raw in made_up_objects(1500):
        writer.add(raw)
    writer.finish(store_info(image_coding="raw", counts=writer.counts))
    writer.close()
    context = multiprocessing.get_context("spawn")
    totals = {}
    for num in (1, LOADERS):
        ready, answer = context.Barrier(num), context.Queue()
        processes = [context.Process(target=read_everything, args=(directory, ready, answer)) for _ in range(num)]
        for process in processes:
            process.start()
        totals[num] = sum(answer.get()[0] for _ in processes) / 1024
        for process in processes:
            process.join()
    print(
        f"memory    the data set in 1 process {totals[1]:.0f} MB, in {LOADERS} processes together "
        f"{totals[LOADERS]:.0f} MB   x {totals[LOADERS] / totals[1]:.2f}"
    )
    return {f"memory of {LOADERS} processes": f"x {totals[LOADERS] / totals[1]:.2f} of one"}


BENCHES = {
    "images": bench_images,
    "features": bench_features,
    "epochs": bench_epochs,
    "open": bench_open,
    "memory": bench_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", metavar="|".join(BENCHES), help="default: all")
    parser.add_argument("--seconds", type=float, default=3.0, help="each rate is measured for so long")
    parser.add_argument("--objects", type=int, default=10_000_000)
    parser.add_argument("--record", action="store_true", help="write the figures to RESULTS.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        figures: Figures = {}
        for name in args.what or BENCHES:
            figures |= BENCHES[name](Path(folder), args)
    if args.record:
        record(figures)


if __name__ == "__main__":
    main()

"""Measure how long a match takes: a process of its own, and a matcher that is loaded.

    python tests/bench/match.py CHECKPOINT [--processes 5] [--pairs 40] [--before FOLDER]

Cold: `run.py --match` from its start to its end, with two images and ten keypoints each, and what it imports. With
--before, the run.py of another checkout takes turns with this one, so that both see the same load; the ratio of their
medians is printed. Warm: `ImageMatcher.match` of new images, of images seen before, and of many pairs in one call, with
one and with two threads allowed.

Seen on two cores that other processes held too (load 9 to 12; efficientnet_lite0 of the package, images of 192 pixels,
a head of width 128; --processes 3 --pairs 24): cold 13.7 s, a processor busy for 2.7, against 35.3 s and 7.5 of a
checkout that imported timm, and with it torch's compiler: 2.6 and 2.8 times as much. Warm 96 to 115 ms a pair of new
images, 15 of images seen before, 5 of those in one call. On the same two cores with nothing else running: cold 2.1 s,
warm 31 ms a pair of new images, 6 of images seen before, 2 of those in one call.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import record

from nmt import load_matcher

ROOT = Path(__file__).parents[2]
SIDE, KEYPOINTS = 300, 10
"""pixels of an image, and its keypoints"""


def made(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and keypoints."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), rng.uniform(0, SIDE, (KEYPOINTS, 2))


def cold(checkouts: dict[str, Path], checkpoint: Path, processes: int) -> dict[str, str]:
    """Time `run.py --match` of every checkout, in turns; return the figures to record."""
    taken: dict[str, list[float]] = {name: [] for name in checkouts}
    busy: dict[str, list[float]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in (("a", 0), ("b", 1)):
            image, points = made(seed)
            Image.fromarray(image).save(f"{folder}/{name}.png")
            lines = [f"k{k},{x},{y}" for k, (x, y) in enumerate(points)]
            Path(folder, f"{name}.csv").write_text("\n".join(lines))
        files = ["--images", "a.png", "b.png", "--keypoints", "a.csv", "b.csv"]
        for _ in range(processes):
            for name, checkout in checkouts.items():
                command = [sys.executable, str(checkout / "run.py"), "--match", str(checkpoint), *files]
                began, before = time.perf_counter(), os.times()
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
                after = os.times()
                taken[name].append(time.perf_counter() - began)
                used = after.children_user + after.children_system - before.children_user - before.children_system
                busy[name].append(used)
    figures = {}
    for name in checkouts:
        seconds, processor = statistics.median(taken[name]), statistics.median(busy[name])
        print(f"cold, {name}: {seconds:.1f} s, of which a processor was busy for {processor:.1f} (medians)")
        figures[f"cold, {name}"] = f"{seconds:.1f} s, processor {processor:.1f} s"
    if len(checkouts) == 2:
        here, there = checkouts
        for what, values in (("time", taken), ("processor", busy)):
            ratio = statistics.median(values[there]) / statistics.median(values[here])
            print(f"cold, {what}: {there} takes {ratio:.1f} times as much as {here}")
    return figures


def warm(checkpoint: Path, pairs: int) -> dict[str, str]:
    """Time a loaded matcher, with one and with two threads in turns; return the figures to record."""
    taken: dict[str, list[float]] = {}
    for threads in (2, 1, 2, 1):
        torch.set_num_threads(threads)
        matcher = load_matcher(checkpoint, device="cpu")
        images = [made(seed) for seed in range(2 * pairs)]
        given = [(*images[2 * k], *images[2 * k + 1]) for k in range(pairs)]
        matcher.match(*made(10**6), *made(10**6 + 1))  # the first one also chooses kernels
        for name in ("new images", "seen images"):
            for pair in given:
                began = time.perf_counter()
                matcher.match(*pair)
                taken.setdefault(f"{name}, {threads} allowed", []).append(time.perf_counter() - began)
        began = time.perf_counter()
        matcher.match_pairs(given)
        each = (time.perf_counter() - began) / pairs
        taken.setdefault(f"seen images in one call, {threads} allowed", []).append(each)
    for name, seconds in taken.items():
        high = sorted(seconds)[int(0.9 * (len(seconds) - 1))]
        print(f"warm, {name}: {1000 * statistics.median(seconds):.0f} ms a pair, 9 of 10 below {1000 * high:.0f}")
    return {f"warm, {name}": f"{1000 * statistics.median(seconds):.0f} ms a pair" for name, seconds in taken.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--record", action="store_true", help="add the figures to tests/bench/RESULTS.md")
    args = parser.parse_args()
    places = {"here": ROOT} | ({"before": args.before.resolve()} if args.before else {})
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    figures = cold(places, args.checkpoint.resolve(), args.processes)
    figures |= warm(args.checkpoint, args.pairs)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    if args.record:
        record(figures)

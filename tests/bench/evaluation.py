"""Measure an evaluation on images and a sweep over decodings, each beside what it was before, in turns of one run.

    python tests/bench/evaluation.py DATA [--pairs 160] [--voc-pairs 5000] [--rounds 3]

DATA is the prepared data set demo, a folder. All figures are seconds that one thread kept a processor busy
(time.process_time), medians over the rounds, so that other processes of the machine hardly count.

Evaluation: similarities of --pairs pairs of demo's val split, spread over the categories (0: all pairs of the recipe),
with efficientnet_lite0 and a head of the recipe's size that was not trained. Before, both images of every pair pass
the backbone; after, each object does once.

Sweep: the grids of search_spaces/demo.toml and voc.toml. Before, the log-domain form of all pairs at once; after,
`sweep_grid`, in which the configured decoding keeps the log-domain form. The similarities of demo are those of all its
val pairs, on stored features; those for voc's grid are cosines of made vectors, 4 to 23 keypoints a pair. Matches that
differ are counted over all decodings of the grid.

Seen on a machine that other processes held too (load 4 to 8). Evaluation: 160 pairs of 105 objects 5.77 s before and
1.83 after, 3.1 times as fast; the largest difference of a similarity is 6e-7. Sweep of demo's grid, 480 pairs of width
14: 0.20 s before and 0.06 after, 3.4 times as fast. It would be 5.2 with the configured decoding scaled too: its 27
iterations of the logarithm are a third of what is left. No match of 172,770 differs. Sweep of voc's grid, 5,000 pairs
of width 23: 8.02 s before and 1.21 after, 6.6 times as fast; 10 matches of 2,430,000 differ.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from record import record

from nmt.config import DecodeConfig, with_overrides
from nmt.data.store.features import open_features
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.outliers import spread
from nmt.data.stream.pairs import eval_batches, eval_pairs, plain_batch
from nmt.decoding import Similarities, model_score, similarities, sweep_grid
from nmt.device import autocast
from nmt.metrics import Counts, count_correct
from nmt.model.build import build_matcher
from nmt.plans import LogPlan, fast_plan
from nmt.seen_objects import SeenObjects, encoder
from nmt.sinkhorn import assign, sinkhorn
from tune.spaces.read import load_space

CPU = torch.device("cpu")


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median processor seconds of each way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            taken[name].append(time.process_time() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def report(what: str, medians: dict[str, float]) -> dict[str, str]:
    """Print the medians, and how many times faster each is than the first; return the line to record."""
    first = next(iter(medians.values()))
    line = ", ".join(f"{name} {s:.2f} s (x {first / s:.1f})" for name, s in medians.items())
    print(f"{what}: {line}", flush=True)
    return {f"{what}:": line}


def bench_images(data: Path, number: int, rounds: int) -> dict[str, str]:
    """Compare the two ways to evaluate on images; return the figures to record."""
    config = with_overrides(load_space("demo").base, {"data.mode": "images"}, source="bench")
    store = ObjectStore.open(data)
    pairs = eval_pairs(store, config.data, split="val")
    pairs = sorted(spread(pairs, number), key=lambda pair: pair.category) if number else pairs
    matcher = build_matcher(config.model, image_size=config.data.image_size, features=None, seed=0).eval()
    precision, size = autocast(config.train.precision, CPU), config.data.pairs_per_step
    score = model_score(matcher, autocast=precision)

    def before() -> Similarities:
        batches = (plain_batch(store, pairs[k : k + size], features=None) for k in range(0, len(pairs), size))
        return similarities(score, batches, device=CPU)

    def after() -> Similarities:
        objects = SeenObjects(encoder(matcher, autocast=precision), store, pairs, pairs_at_once=size, device=CPU)
        return similarities(score, objects.batches(pairs), device=CPU)

    objects = len({row for pair in pairs for row in (pair.row0, pair.row1)})
    figures = report(
        f"evaluation of {len(pairs)} pairs of {objects} objects", in_turns({"before": before, "after": after}, rounds)
    )
    difference = (after().similarity_PNM - before().similarity_PNM).abs().max()
    print(f"largest difference of a similarity: {difference:.1e}", flush=True)
    return figures


def demo_similarities(data: Path) -> Similarities:
    """Score all pairs of demo's val split on stored features."""
    config, store = load_space("demo").base, ObjectStore.open(data)
    features = open_features(data, config)
    matcher = build_matcher(config.model, image_size=config.data.image_size, features=features, seed=0).eval()
    batches = eval_batches(store, config.data, split="val", features=features, batch_size=64)
    return similarities(model_score(matcher, autocast=autocast("fp32", CPU)), batches, device=CPU)


def voc_like(number: int) -> Similarities:
    """Make similarities of pairs of 20 categories with 4 to 23 keypoints, padded to 23."""
    generator = torch.Generator().manual_seed(0)
    category_P = torch.arange(number) * 20 // max(number, 1)
    num_P = torch.minimum(4 + category_P, torch.tensor(23))
    mask_PN = torch.arange(23) < num_P[:, None]
    known = F.normalize(torch.randn(number, 23, 32, generator=generator), dim=-1)
    other = F.normalize(known + 0.25 * torch.randn(number, 23, 32, generator=generator), dim=-1)
    similarity = (known @ other.transpose(1, 2)).masked_fill(~(mask_PN[:, :, None] & mask_PN[:, None]), 0)
    match_PN = torch.where(mask_PN, torch.arange(23), -1)
    return Similarities(similarity, mask_PN, mask_PN, match_PN, category_P)


def log_at_once(stored: Similarities, settings: Sequence[DecodeConfig]) -> dict[DecodeConfig, Counts]:
    """Sweep as before: the logarithm of the plans of all pairs at once."""
    masks, found = (stored.mask0_PN, stored.mask1_PM), {}
    ordered = sorted(settings, key=lambda s: (s.epsilon, s.sinkhorn_iterations, s.assignment))
    for epsilon, chain in itertools.groupby(ordered, key=lambda s: s.epsilon):
        plan, done = sinkhorn(stored.similarity_PNM, *masks, epsilon=epsilon, iterations=0), 0
        for setting in chain:
            plan = sinkhorn(plan, *masks, epsilon=1.0, iterations=setting.sinkhorn_iterations - done)
            done = setting.sinkhorn_iterations
            predicted_PN = assign(plan, *masks, assignment=setting.assignment)
            found[setting] = count_correct(predicted_PN, stored.match_PN, stored.category_P, 20)
    return found


def differing(stored: Similarities, settings: Sequence[DecodeConfig]) -> tuple[int, int]:
    """Count the matches of a grid that the two forms decide otherwise, and all matches."""
    differ, given = 0, (stored.similarity_PNM, stored.mask0_PN, stored.mask1_PM)
    ordered = sorted(settings, key=lambda s: (s.epsilon, s.sinkhorn_iterations, s.assignment))
    for epsilon, chain in itertools.groupby(ordered, key=lambda s: s.epsilon):
        plans, done = [kind(*given, epsilon=epsilon) for kind in (LogPlan, fast_plan)], 0
        for setting in chain:
            for plan in plans:
                plan.iterate(setting.sinkhorn_iterations - done)
            done = setting.sinkhorn_iterations
            ours, theirs = (plan.assign(setting.assignment) for plan in plans)
            differ += int((ours != theirs).sum())
    return differ, len(settings) * int(stored.mask0_PN.sum())


def bench_sweep(name: str, stored: Similarities, rounds: int) -> dict[str, str]:
    """Compare the ways to sweep the grid of a search space; return the figures to record."""
    space = load_space(name)
    settings, decode = space.decode_grid(), space.base.decode
    ways = {
        "before": lambda: log_at_once(stored, settings),
        "after": lambda: sweep_grid(stored, settings, published=[decode], num_categories=20, device=CPU),
        "with the configured decoding scaled too": lambda: sweep_grid(
            stored, settings, published=[], num_categories=20, device=CPU
        ),
    }
    width = stored.similarity_PNM.shape[1]
    figures = report(
        f"{len(settings)} decodings of {len(stored.category_P)} pairs of width {width}, grid of {name}",
        in_turns(ways, rounds),
    )
    differ, total = differing(stored, settings)
    print(f"matches that differ: {differ} of {total}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=160)
    parser.add_argument("--voc-pairs", type=int, default=5000, help="20000 is the size of voc's val split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="add the figures to tests/bench/RESULTS.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    with torch.inference_mode():
        figures = bench_images(args.data, args.pairs, args.rounds)
        figures |= bench_sweep("demo", demo_similarities(args.data), args.rounds)
        figures |= bench_sweep("voc", voc_like(args.voc_pairs), args.rounds)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    if args.record:
        record(figures)


if __name__ == "__main__":
    main()

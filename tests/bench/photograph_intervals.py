"""How often the 95 % intervals over photographs hold the true accuracy, in made worlds where it is known.

    python tests/bench/photograph_intervals.py     # the table: two minutes on one core

A keypoint is matched rightly with the probability logistic(0.8 + a + b + e). a and b are the effects of the two
photographs, with the deviation `shared`. e is that of the pair, with the deviation `own`. Pairs are sampled as in an
evaluation.
"""

from __future__ import annotations

import itertools

import numpy as np

from nmt.bootstrap import MEAN, intervals
from nmt.pair_results import PairResults

OFFSET = 0.8


def draw_world(
    rng: np.random.Generator, *, photographs: int, categories: int, pairs: int, shared: float, own: float
) -> PairResults:
    """Draw photographs, the evaluation pairs among them, and what is matched rightly."""
    possible = np.array(list(itertools.permutations(range(photographs), 2)))
    chosen = [possible[rng.permutation(len(possible))[:pairs]] + c * photographs for c in range(categories)]
    photographs_P2 = np.concatenate(chosen)
    effect = rng.normal(0, shared, categories * photographs)
    logit_P = OFFSET + effect[photographs_P2].sum(1) + rng.normal(0, own, len(photographs_P2))
    total_P = rng.integers(2, 9, len(photographs_P2))
    correct_P = rng.binomial(total_P, 1 / (1 + np.exp(-logit_P)))
    names = tuple(f"category {c}" for c in range(categories))
    category_P = np.repeat(np.arange(categories), [len(some) for some in chosen])
    return PairResults(names, photographs_P2, category_P, total_P.astype(float), {"NMT": correct_P.astype(float)})


def true_accuracy(shared: float, own: float) -> float:
    """Return the accuracy over all photographs: the integral over a normal sum of effects."""
    x = np.linspace(-8, 8, 4001)
    density = np.exp(-(x**2) / 2)
    logit = OFFSET + np.sqrt(2 * shared**2 + own**2) * x
    return float((density / (1 + np.exp(-logit))).sum() / density.sum())


def coverage(
    *, photographs: int, categories: int, pairs: int, shared: float, own: float, worlds: int, draws: int, seed: int
) -> float:
    """Return the share of worlds whose interval of the mean accuracy holds the true one."""
    rng, truth, held = np.random.default_rng(seed), true_accuracy(shared, own), 0
    for _ in range(worlds):
        made = draw_world(rng, photographs=photographs, categories=categories, pairs=pairs, shared=shared, own=own)
        low, high = intervals(made, draws=draws)["NMT"][MEAN]
        held += low <= truth <= high
    return held / worlds


def main() -> None:
    """Print the table."""
    print("photographs  categories  pairs   shared  own   coverage")
    for photographs, categories, pairs in ((5, 3, 20), (8, 5, 56), (15, 5, 200), (40, 5, 400), (40, 20, 1000)):
        for shared, own in ((0.0, 0.0), (0.0, 1.5), (0.4, 1.0), (1.2, 0.5)):
            size = {"photographs": photographs, "categories": categories, "pairs": pairs}
            found = coverage(**size, shared=shared, own=own, worlds=400, draws=300, seed=0)
            print(f"{photographs:11} {categories:11} {pairs:6} {shared:8.1f} {own:4.1f} {found:10.1%}", flush=True)


if __name__ == "__main__":
    main()

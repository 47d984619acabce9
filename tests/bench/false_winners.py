"""How often `--confirm` names a winner: where all configurations are equal, and where one gains two points.

    python tests/bench/false_winners.py [--comparisons 20000]

It takes 4 s of CPU time. Accuracies are drawn, so that the truth is known: seeds move a training by 1.0 points, of
which a share is common to all trainings with one seed (the pairs that it draws). Worlds differ in that share, in
rounding (accuracies over 200 keypoints, so that equal differences occur), and in one configuration with more noise: a
candidate, or the default. The intervals are the product's own, `tune.results.simultaneous` and `tune.evidence.looks`.
"Before" is one paired t interval of 95 % for each candidate, at each look. "Pooled" is an analysis of variance, with
Bonferroni and the same levels at each look: one noise for all configurations.

docs/search.md#is-the-winner-really-better shows what it printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from tune.evidence.looks import FALSE_WINNERS, confidence_at
from tune.results.simultaneous import simultaneous_differences

Array = npt.NDArray[np.float64]
NOISE = 0.01
"""standard deviation of a training over seeds"""
LOOKS = ((3,), (5,), (3, 5, 8))
"""seeds at each look"""
GAIN = 0.02
"""true gain of one candidate, for the power"""


@dataclass(frozen=True)
class World:
    """Where accuracies come from."""

    shared: float = 0.5
    """share of the variance that all trainings with one seed have in common"""
    rounding: float = 0.0
    """accuracies are multiples of it; 0: they are not rounded"""
    keypoints: int = 2000
    noisy: float = 1.0
    """factor of the noise of the last candidate"""
    noisy_default: float = 1.0
    """factor of the noise of the default"""

    def draw(self, generator: np.random.Generator, shape: tuple[int, int, int], gain: float = 0.0) -> Array:
        """Draw (comparisons, 1 + K, seeds) accuracies: the default, then K candidates, the first with a gain."""
        comparisons, configurations, seeds = shape
        factors = np.ones((configurations, 1))
        factors[0], factors[-1] = self.noisy_default, self.noisy
        common = generator.normal(size=(comparisons, 1, seeds)) * NOISE * self.shared**0.5
        own = generator.normal(size=shape) * NOISE * (1 - self.shared) ** 0.5 * factors
        values = 0.8 + common + own
        values[:, 1] += gain
        return np.round(values / self.rounding) * self.rounding if self.rounding else values

    def __str__(self) -> str:
        words = [f"{self.shared:.0%} of the noise shared"]
        words += [f"rounded to {100 * self.rounding:g} points"] if self.rounding else []
        words += [f"one candidate {self.noisy:g} x as noisy"] if self.noisy != 1 else []
        words += [f"the default {self.noisy_default:g} x as noisy"] if self.noisy_default != 1 else []
        return ", ".join(words)


@dataclass(frozen=True)
class Share:
    """The share of confirmations that named a winner at any look."""

    before: float
    pooled: float
    ours: float

    def __str__(self) -> str:
        return f"{self.before:6.1%} {self.pooled:6.1%} {self.ours:6.1%}"


def false_winners(world: World, candidates: int, looks: Sequence[int], *, comparisons: int) -> Share:
    """Return how often any of several equal candidates is named the winner."""
    values = world.draw(np.random.default_rng(0), (comparisons, 1 + candidates, max(looks)))
    return _named(world, values, looks, slice(None))


def power(world: World, candidates: int, looks: Sequence[int], *, comparisons: int) -> Share:
    """Return how often the one candidate that gains two points is found, among others that gain nothing."""
    values = world.draw(np.random.default_rng(1), (comparisons, 1 + candidates, max(looks)), GAIN)
    return _named(world, values, looks, slice(0, 1))


def _named(world: World, values: Array, looks: Sequence[int], which: slice) -> Share:
    """Return how often the intervals of some of the candidates lie above 0 at any of the looks."""
    before, pooled, ours = (np.zeros(len(values), bool) for _ in range(3))
    for number, seeds in enumerate(looks, start=1):
        seen = values[..., :seeds]
        mean, half = simultaneous_differences(seen, confidence=confidence_at(number), keypoints=world.keypoints)
        ours |= _above(mean, half)[:, which].any(1)
        pooled |= _above(*_pooled(seen, confidence_at(number)))[:, which].any(1)
        before |= _above(*_alone(seen))[:, which].any(1)
    return Share(before=float(before.mean()), pooled=float(pooled.mean()), ours=float(ours.mean()))


def _above(mean: Array, half: Array) -> npt.NDArray[np.bool_]:
    """Return where an interval lies above 0; rounded accuracies that are equal differ in their last bits."""
    return mean - half > 1e-9


def _alone(values: Array) -> tuple[Array, Array]:
    """Return differences and half intervals as they were: Student's t at 95 % for each candidate."""
    differences, seeds = values[:, 1:] - values[:, :1], values.shape[-1]
    quantile = float(stdtrit(seeds - 1, 0.975))
    return differences.mean(-1), quantile * differences.std(-1, ddof=1) / seeds**0.5


def _pooled(values: Array, confidence: float) -> tuple[Array, Array]:
    """Return differences and half intervals by the residual variance of configurations x seeds."""
    differences, (configurations, seeds) = values[:, 1:] - values[:, :1], values.shape[1:]
    means = values.mean(2, keepdims=True) + values.mean(1, keepdims=True) - values.mean((1, 2), keepdims=True)
    freedom = (configurations - 1) * (seeds - 1)
    variance = 2 * ((values - means) ** 2).sum((1, 2)) / freedom
    quantile = float(stdtrit(freedom, 1 - (1 - confidence) / (2 * (configurations - 1))))
    return differences.mean(-1), quantile * (variance[:, None] / seeds) ** 0.5


@dataclass(frozen=True)
class Gains:
    """The mean gain, in points, that the reports of the confirmations with a winner show; the truth is 1.0."""

    val: float
    test: float


def shown_gains(correlation: float, *, candidates: int = 3, seeds: int = 5, comparisons: int) -> Gains:
    """Return the gains shown where every candidate truly gains one point.

    Args:
        correlation: of a training's noise on val and on test.
    """
    generator = np.random.default_rng(2)
    shape = (comparisons, 1 + candidates, seeds)
    val = generator.normal(size=shape)
    test = correlation * val + (1 - correlation**2) ** 0.5 * generator.normal(size=shape)
    truth = np.array([0.0] + [0.01] * candidates)[:, None]
    val, test = 0.8 + truth + NOISE * val, 0.8 + truth + NOISE * test
    mean, half = simultaneous_differences(val, confidence=confidence_at(1))
    above = _above(mean, half)
    rows = np.flatnonzero(above.any(1))
    best = np.where(above, mean, -np.inf).argmax(1)[rows]
    on_test = (test[:, 1:] - test[:, :1]).mean(-1)
    return Gains(val=100 * float(mean[rows, best].mean()), test=100 * float(on_test[rows, best].mean()))


WORLDS = (
    World(),
    World(shared=0.0),
    World(shared=0.9),
    World(rounding=0.005, keypoints=200),
    World(noisy=3.0),
    World(noisy=30.0),
    World(noisy_default=3.0),
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=20_000)
    comparisons = parser.parse_args().comparisons
    print(f"before, pooled, now: equal configurations have a winner, meant to be {FALSE_WINNERS:.0%} at most")
    for world in WORLDS:
        for looks in LOOKS:
            for candidates in (1, 3, 10):
                found = false_winners(world, candidates, looks, comparisons=comparisons)
                print(f"  {world!s:45} K {candidates:2}  seeds {looks!s:9}  {found!s}")
    print(f"before, pooled, now: one candidate gains {100 * GAIN:g} points, the others nothing; it is found")
    for world in (*WORLDS[:3], World(noisy=30.0)):
        for looks in ((3,), (5,), (8,)):
            for candidates in (1, 3, 10):
                found = power(world, candidates, looks, comparisons=comparisons)
                print(f"  {world!s:45} K {candidates:2}  seeds {looks!s:9}  {found!s}")
    print("three candidates gain 1.0 points each; the winner's report shows")
    for correlation in (0.0, 0.5, 0.9):
        gains = shown_gains(correlation, comparisons=comparisons)
        print(f"  noise of val and test correlated by {correlation:g}: val {gains.val:.2f}, test {gains.test:.2f}")


if __name__ == "__main__":
    main()

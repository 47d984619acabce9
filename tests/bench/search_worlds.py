"""What a replayed search trains on: real runs, or a surrogate fitted to them that can be asked for any configuration.

The surrogate is an ensemble of extremely randomised trees (Geurts et al. 2006), from a configuration to its whole
learning curve. It is no Gaussian process on purpose, which would favour samplers that are one. Its noise are the
differences between real trainings of the same configurations with other seeds, drawn as whole curves.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from search_tables import Row, read_rows, space_of

from tune.spaces.space import Space
from tune.study.places import Places
from tune.study.sampler_view import seen_params

Array = NDArray[np.float64]
DEVELOPMENT = ("willow_grid", "willow", "parts")
"""tables to improve a method on"""
HELD_OUT = ("leeds", "demo")
"""tables for the final figures, not looked at while a method is improved"""
TREES, LEAF = 100, 3
LOOKED = 20_000
"""configurations among which the best of a surrogate is looked for"""


class World(Protocol):
    """A search space whose configurations have values."""

    name: str
    space: Space

    @property
    def best(self) -> float:
        """The highest true value."""

    def curve(self, values: Mapping[str, Any], seed: int) -> Array:
        """The value after each epoch of one training."""

    def truth(self, values: Mapping[str, Any]) -> float:
        """What a training of this configuration reaches at its best epoch, without the luck of its seed."""


def world_of(name: str) -> World:
    """The world of a table."""
    return Recorded(name) if space_of(name).size is not None else Surrogate(name)


class Recorded:
    """A grid whose every configuration was trained, once: there is no noise."""

    def __init__(self, name: str) -> None:
        self.name, self.space = name, space_of(name)
        self._curves = {_key(row.values): np.array(row.curve) for row in read_rows(name)}

    @property
    def best(self) -> float:
        return float(max(curve.max() for curve in self._curves.values()))

    def curve(self, values: Mapping[str, Any], seed: int) -> Array:
        return self._curves[_key(values)]

    def truth(self, values: Mapping[str, Any]) -> float:
        return float(self._curves[_key(values)].max())


class Surrogate:
    """A space of ranges whose values between the trained configurations are estimated."""

    def __init__(self, name: str) -> None:
        self.name, self.space = name, space_of(name)
        rows = read_rows(name)
        self._places = Places(self.space)
        self._x = self._places.of([self._seen(row.values) for row in rows])
        self._y = np.array([row.curve for row in rows])
        self.trees = Trees.fit(self._x, self._y)
        self.noise = noise_curves(rows)
        """differences of single trainings from their mean over seeds"""
        self._truths: dict[Any, float] = {}

    def _seen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return seen_params(self.space, self.space.encoded(values))

    @functools.cached_property
    def best(self) -> float:
        points = self._places.snapped(np.random.default_rng(0).random((LOOKED, self._x.shape[1])))
        return float(self.trees.predict(np.concatenate([points, self._x])).max())

    def curve(self, values: Mapping[str, Any], seed: int) -> Array:
        digest = hashlib.sha256(repr((seed, _key(values))).encode()).digest()
        noise = self.noise[np.random.default_rng(list(digest)).integers(len(self.noise))]
        return np.clip(self._mean(values) + noise, 0.0, 1.0)

    def truth(self, values: Mapping[str, Any]) -> float:
        key = _key(values)
        if key not in self._truths:
            self._truths[key] = float(self._mean(values).max())
        return self._truths[key]

    def _mean(self, values: Mapping[str, Any]) -> Array:
        return self.trees.predict(self._places.of([self._seen(values)]))[0]

    def explained(self, folds: int = 5) -> float:
        """The share of the variance at the last epoch that trees explain of configurations they were not fitted to."""
        fold = np.unique(self._x, axis=0, return_inverse=True)[1].ravel() % folds
        guessed = np.empty(len(self._x))
        for k in range(folds):
            guessed[fold == k] = Trees.fit(self._x[fold != k], self._y[fold != k]).predict(self._x[fold == k])[:, -1]
        last = self._y[:, -1]
        return float(1 - ((guessed - last) ** 2).mean() / last.var())


def _key(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def noise_curves(rows: Sequence[Row]) -> Array:
    """What single trainings differ by from the mean of their configuration, beside what their seed does to all.

    Args:
        rows: trainings; those configurations count that were trained with every seed of some set of three or more.

    Returns:
        A curve a training, scaled to the variance that a training has.
    """
    seeds = {n: {row.seed for row in rows if row.number == n} for n in {row.number for row in rows}}
    found = []
    for group in {frozenset(s) for s in seeds.values() if len(s) > 2}:
        numbers = sorted(n for n, own in seeds.items() if own == group)
        known = {(row.number, row.seed): row.curve for row in rows}
        curves = np.array([[known[n, s] for s in sorted(group)] for n in numbers])  # configurations, seeds, epochs
        rest = curves - curves.mean(1, keepdims=True)
        rest -= rest.mean(0, keepdims=True)
        count, of_seeds = curves.shape[:2]
        scale = (count / (count - 1) * of_seeds / (of_seeds - 1)) ** 0.5
        found.append(scale * rest.reshape(-1, curves.shape[2]))
    return np.concatenate(found)


@dataclass(frozen=True)
class Trees:
    """An ensemble of trees, their nodes in common arrays; a leaf is its own child."""

    feature: NDArray[np.int64]
    threshold: Array
    child: NDArray[np.int64]
    """(nodes, 2): below the threshold, and above"""
    value: Array
    """(nodes, epochs): mean of the curves in the node"""
    roots: NDArray[np.int64]

    @classmethod
    def fit(cls, x: Array, y: Array, seed: int = 0) -> Trees:
        rng = np.random.default_rng(seed)
        nodes: list[tuple[int, float, list[int], Array]] = []

        def grow(rows: NDArray[np.int64]) -> int:
            number, mean = len(nodes), y[rows].mean(0)
            nodes.append((0, np.inf, [number, number], mean))
            split = _split(x[rows], y[rows], rng)
            if split is not None:
                feature, threshold = split
                below = x[rows, feature] < threshold
                children = [grow(rows[below]), grow(rows[~below])]
                nodes[number] = (feature, threshold, children, mean)
            return number

        roots = [grow(np.arange(len(x))) for _ in range(TREES)]
        feature, threshold, child, value = (np.array(column) for column in zip(*nodes, strict=True))
        return cls(feature, threshold, child, value, np.array(roots))

    def predict(self, x: Array) -> Array:
        """The curve at each point, (M, epochs): the mean over all trees."""
        found = np.zeros((len(x), self.value.shape[1]))
        everywhere = np.arange(len(x))
        for root in self.roots if len(x) > len(self.roots) else ():
            at = np.full(len(x), root)
            while (after := self._descended(at, x[everywhere, self.feature[at]])) is not at:
                at = after
            found += self.value[at] / len(self.roots)
        for place, point in enumerate(x if len(x) <= len(self.roots) else ()):
            at = self.roots
            while (after := self._descended(at, point[self.feature[at]])) is not at:
                at = after
            found[place] = self.value[at].mean(0)
        return found

    def _descended(self, at: NDArray[np.int64], place: Array) -> NDArray[np.int64]:
        after = self.child[at, (place >= self.threshold[at]).astype(np.int64)]
        return at if np.array_equal(after, at) else after


def _split(x: Array, y: Array, rng: np.random.Generator) -> tuple[int, float] | None:
    """Of one random threshold for each place, the one that leaves the least variance; None for a leaf."""
    best, found = -np.inf, None
    for feature in range(x.shape[1]) if len(x) >= 2 * LEAF else ():
        low, high = x[:, feature].min(), x[:, feature].max()
        threshold = rng.uniform(low, high)
        below = x[:, feature] < threshold
        count = int(below.sum())
        if min(count, len(x) - count) < LEAF:
            continue
        gain = float((y[below].sum(0) ** 2).sum() / count + (y[~below].sum(0) ** 2).sum() / (len(x) - count))
        if gain > best:
            best, found = gain, (feature, float(threshold))
    return found

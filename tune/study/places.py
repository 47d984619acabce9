"""Configurations of a space as points of the unit cube, for samplers that measure distances. Imports no Ray.

Each searched key is one place in [0, 1]: a range on its scale, listed numbers by their order, names by their number.
A key that is not searched in a trial has its default there, as in the training itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nmt.config import to_flat
from tune.spaces.space import Space
from tune.study.sampler_view import seen_distribution, seen_params, study_params

Array = NDArray[np.float64]


class Places:
    """The unit cube of a space: D places, one for each searched key."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.distributions: dict[str, BaseDistribution] = {p.key: seen_distribution(p) for p in space.parameters}
        kinds = self.distributions.values()
        self.named_D = np.array([isinstance(d, CategoricalDistribution) for d in kinds])
        self._conditional = any(p.when for p in space.parameters)
        flat = to_flat(space.base)
        values = {p.key: tuple(flat[p.key]) if p.type is tuple else flat[p.key] for p in space.parameters}
        self._default = seen_params(space, space.encoded(values))

    def of(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Return the points (M, D) of configurations, given in the form of a sampler."""
        rows = [
            [_place(declared, given.get(key, self._default[key])) for key, declared in self.distributions.items()]
            for given in params
        ]
        return np.array(rows, dtype=np.float64).reshape(len(params), len(self.distributions))

    def params(self, point_D: Array) -> dict[str, Any]:
        """Return the values at a point, in the form of a sampler, those of keys that are not searched there too."""
        return {key: _value(d, float(u)) for (key, d), u in zip(self.distributions.items(), point_D, strict=True)}

    def snapped(self, points_MD: Array) -> Array:
        """Move points to the nearest ones that a trial can have; a key that is not searched there gets its default."""
        found = [self.params(point) for point in points_MD]
        if self._conditional:
            space = self._space
            for params in found:
                active = space.active_keys(space.decoded(study_params(space, params)))
                params.update({key: value for key, value in self._default.items() if key not in active})
        return self.of(found)

    def grid(self) -> Array:
        """Return the points of a countable space."""
        space = self._space
        return self.of([seen_params(space, space.encoded(values)) for values in space.grid()])


def _place(declared: BaseDistribution, value: Any) -> float:
    if isinstance(declared, CategoricalDistribution):
        return declared.choices.index(value) / (len(declared.choices) - 1)
    assert isinstance(declared, IntDistribution | FloatDistribution)
    low, high, number = declared.low, declared.high, value
    if declared.log:
        low, high, number = np.log([low, high, value])
    return float((number - low) / (high - low))


def _value(declared: BaseDistribution, place: float) -> Any:
    place = min(max(place, 0.0), 1.0)
    if isinstance(declared, CategoricalDistribution):
        return declared.choices[round(place * (len(declared.choices) - 1))]
    assert isinstance(declared, IntDistribution | FloatDistribution)
    low, high = declared.low, declared.high
    value = low * (high / low) ** place if declared.log else low + place * (high - low)
    if declared.step and not declared.log:
        value = low + round((value - low) / declared.step) * declared.step
    value = min(max(value, low), high)
    return round(value) if isinstance(declared, IntDistribution) else float(value)

"""The search space: the default configuration, the searched keys, the budget and the resources of a search."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmt.config import Config, DecodeConfig, to_dict, to_flat, with_overrides
from nmt.errors import UserError
from tune.spaces.fidelity import STORED, Promoted
from tune.spaces.parameter import Parameter
from tune.spaces.settings import Resources, SearchSettings, check_table

MAX_GRID = 100_000


@dataclass(frozen=True, kw_only=True)
class Space:
    """A checked search. Each value of `parameters` costs a training; those of `sweep` are tried at inference."""

    name: str
    description: str
    base: Config
    parameters: tuple[Parameter, ...]
    sweep: tuple[Parameter, ...]
    search: SearchSettings
    resources: Resources
    text: str
    """the TOML file as given"""
    file: str = ""
    """its path"""
    fidelity: tuple[str, ...] = ()
    """FIDELITIES: explored on features, the best then on images (see tune/spaces/fidelity.py); (): in the mode of the
    base"""
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """keys that differ from the base in the stage on features"""
    given: tuple[Promoted, ...] = ()
    """configurations after the default one that no sampler draws"""

    @property
    def default_params(self) -> dict[str, Any]:
        """Values of the searched keys in the default configuration, trial 0."""
        return self.params_of(self.base)

    def params_of(self, config: Config) -> dict[str, Any]:
        """Return the values of the searched keys in a configuration."""
        flat = to_flat(config)
        values = {p.key: tuple(flat[p.key]) if p.type is tuple else flat[p.key] for p in self.parameters}
        return self.active(values)

    def active_keys(self, values: Mapping[str, Any]) -> set[str]:
        """Return the keys that are searched in a trial with these values."""
        return {p.key for p in self.parameters if p.active(values)}

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the values whose keys are searched in a trial that has them: their conditions hold."""
        keys = self.active_keys(values)
        return {key: value for key, value in values.items() if key in keys}

    def configuration(self, params: Mapping[str, Any]) -> Config:
        """Return the whole configuration of a trial with these searched values."""
        return with_overrides(self.base, params, source=f"search {self.name}")

    def with_budget(self, *, trials: int | None = None, seed: int | None = None) -> Space:
        """Replace the number of trials or the seed of the sampler (--trials, --seed) where given."""
        given = {"trials": trials, "seed": seed}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        check_table(SearchSettings, changed, "--trials, --seed")
        search = dataclasses.replace(self.search, **changed)
        space = dataclasses.replace(self, search=search)
        return within_size(space, self.name)

    def decode_grid(self) -> tuple[DecodeConfig, ...]:
        """List every decoding to try at inference, the default one first; empty if none is searched."""
        if not self.sweep:
            return ()
        names = [p.key.removeprefix("decode.") for p in self.sweep]
        combinations = itertools.product(*(p.values or () for p in self.sweep))
        grid = [dataclasses.replace(self.base.decode, **dict(zip(names, c, strict=True))) for c in combinations]
        return (self.base.decode, *(d for d in grid if d != self.base.decode))

    def encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Encode searched values as the study holds them."""
        return {p.key: p.encode(values[p.key]) for p in self.parameters if p.key in values}

    def decoded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Decode what the study holds to configuration values."""
        return {p.key: p.decode(params[p.key]) for p in self.parameters if p.key in params}

    @functools.cached_property
    def size(self) -> int | None:
        """Number of configurations; None if they are not countable, or more than MAX_GRID."""
        count = math.prod(len(p.choices() or ()) for p in self.parameters)
        if not 0 < count <= MAX_GRID:
            return None
        return len(self._grid) if any(p.when for p in self.parameters) else count

    def grid(self) -> list[dict[str, Any]]:
        """List every configuration of a countable space, the default one first."""
        return list(self._grid)

    @functools.cached_property
    def _grid(self) -> list[dict[str, Any]]:
        keys = [p.key for p in self.parameters]
        combinations = itertools.product(*(p.choices() or () for p in self.parameters))
        points = [self.active(dict(zip(keys, c, strict=True))) for c in combinations]
        distinct = {json.dumps(p): p for p in points}  # a key that is not searched in a trial makes no other trial
        default = self.default_params
        return [default, *(p for p in distinct.values() if p != default)]

    def variants(self, keys: Sequence[str]) -> list[Config]:
        """List the configurations that differ in those of `keys` that are searched, the rest at the default."""
        chosen = [p for p in self.parameters if p.key in keys]
        combinations = itertools.product(*(p.choices() or () for p in chosen))
        return [self.configuration(dict(zip((p.key for p in chosen), c, strict=True))) for c in combinations]

    def stored(self) -> list[Config]:
        """List one configuration for each table of stored features that a trial may read."""
        return self.variants(STORED)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as search.json holds them."""
        return {
            "name": self.name,
            "description": self.description,
            "base": to_dict(self.base),
            "space": {p.key: p.to_dict() for p in (*self.parameters, *self.sweep)},
            "search": json.loads(json.dumps(dataclasses.asdict(self.search))),
            "resources": dataclasses.asdict(self.resources),
            **({"fidelity": list(self.fidelity), "features": dict(self.features)} if self.fidelity else {}),
            **({"given": [dataclasses.asdict(g) for g in self.given]} if self.given else {}),
        }


def within_size(space: Space, source: str) -> Space:
    """Limit the budget to every configuration once; a grid search without a budget gets all of them.

    Raises:
        UserError: a grid search over what is not countable.
    """
    if space.size is None:
        if space.search.sampler == "grid":
            raise UserError(f"{source}: {_why_no_grid(space)}")
        return space
    wanted = space.search.trials or (space.size if space.search.sampler == "grid" else 0)
    search = dataclasses.replace(space.search, trials=min(wanted, space.size))
    return dataclasses.replace(space, search=search)


def _why_no_grid(space: Space) -> str:
    for parameter in space.parameters:
        if parameter.choices() is None:
            return f'sampler = "grid" needs values or a step for {parameter.key}'
    count = math.prod(len(p.choices() or ()) for p in space.parameters)
    return f"a grid of {count} configurations, more than {MAX_GRID}; give fewer values"

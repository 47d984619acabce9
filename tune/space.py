"""Search spaces: one TOML file a search, read and checked against the configuration before anything starts.

A file holds `[base]` (the default configuration, trial 0), `[space]` (what is searched: values or a range a key),
`[search]` (sampler, early stopping, budget) and `[resources]` (of one worker of one trial). Files with `[variants]`
instead of `[space]` are ablations, see tune.ablation. Imports neither Ray nor torch, so that a mistake in a file is
answered at once.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import Config, DecodeConfig, flatten, from_dict, to_dict, to_flat, with_overrides
from nmt.errors import UserError, nearest
from tune.checks import check_together
from tune.fidelity import HIGH, STORED, Given, read_fidelity
from tune.fidelity import parts as parts_of
from tune.parameter import Parameter, check_keys, read_parameters, trained
from tune.settings import DEFAULT_TRIALS, Resources, SearchSettings, check_resources, check_table

SPACES = Path(__file__).resolve().parent.parent / "search_spaces"
"""the search spaces of the project"""

MAX_GRID = 100_000
_NAME = r"[A-Za-z0-9_-]+"


@dataclass(frozen=True, kw_only=True)
class Space:
    """A checked search: `parameters` cost a training each, `sweep` are read at inference and cost none."""

    name: str
    description: str
    base: Config
    parameters: tuple[Parameter, ...]
    sweep: tuple[Parameter, ...]
    search: SearchSettings
    resources: Resources
    text: str
    """the TOML file as given"""
    fidelity: tuple[str, ...] = ()
    """FIDELITIES: explored on features, the best then on images (see tune.fidelity); (): in the mode of the base"""
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """keys that differ from the base while exploring on features"""
    given: tuple[Given, ...] = ()
    """configurations after the default one that no sampler draws"""

    @property
    def default_params(self) -> dict[str, Any]:
        """The searched keys at their values in the default configuration: trial 0."""
        flat = to_flat(self.base)
        values = {p.key: tuple(flat[p.key]) if p.type is tuple else flat[p.key] for p in self.parameters}
        return self.active(values)

    def active_keys(self, values: Mapping[str, Any]) -> set[str]:
        """The keys that are searched in a trial with these values."""
        return {p.key for p in self.parameters if p.active(values)}

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `values` whose keys are searched in a trial that has them: their conditions hold."""
        keys = self.active_keys(values)
        return {key: value for key, value in values.items() if key in keys}

    def configuration(self, params: Mapping[str, Any]) -> Config:
        """The whole configuration of a trial with these searched values."""
        return with_overrides(self.base, params, source=f"search {self.name}")

    def with_budget(self, *, trials: int | None = None, seed: int | None = None) -> Space:
        """With another number of trials or sampler seed (--trials, --seed) where given."""
        given = {"trials": trials, "seed": seed}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        check_table(SearchSettings, changed, "--trials, --seed")
        search = dataclasses.replace(self.search, **changed)
        space = dataclasses.replace(self, search=search)
        return _within_size(space, self.name)

    def decode_grid(self) -> tuple[DecodeConfig, ...]:
        """Every swept decode setting, the default one first; empty if none is searched."""
        if not self.sweep:
            return ()
        names = [p.key.removeprefix("decode.") for p in self.sweep]
        combinations = itertools.product(*(p.values or () for p in self.sweep))
        grid = [dataclasses.replace(self.base.decode, **dict(zip(names, c, strict=True))) for c in combinations]
        return (self.base.decode, *(d for d in grid if d != self.base.decode))

    def encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Searched values as the study holds them."""
        return {p.key: p.encode(values[p.key]) for p in self.parameters if p.key in values}

    def decoded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the study holds, as configuration values."""
        return {p.key: p.decode(params[p.key]) for p in self.parameters if p.key in params}

    @functools.cached_property
    def size(self) -> int | None:
        """How many configurations there are; None where they are not countable, or more than MAX_GRID."""
        count = math.prod(len(p.choices() or ()) for p in self.parameters)
        if not 0 < count <= MAX_GRID:
            return None
        return len(self._grid) if any(p.when for p in self.parameters) else count

    def grid(self) -> list[dict[str, Any]]:
        """Every configuration of a countable space, the default one first."""
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
        """The configurations that differ in those of `keys` that are searched by values, the rest at the default."""
        chosen = [p for p in self.parameters if p.key in keys]
        combinations = itertools.product(*(p.choices() or () for p in chosen))
        return [self.configuration(dict(zip((p.key for p in chosen), c, strict=True))) for c in combinations]

    def stored(self) -> list[Config]:
        """One configuration for each table of stored features that a trial may read."""
        return self.variants(STORED)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as search.json holds them."""
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


def load_space(path_or_name: str | Path, overrides: Mapping[str, Any] | None = None) -> Space:
    """The checked search space in a TOML file, or of the project by name; `overrides` (--set) change its base.

    Raises UserError for anything wrong in the file: what, where, and what would be right.
    """
    path = find_space(path_or_name)
    source = shown_path(path)
    text, tables = read_tables(path)
    if "variants" in tables:
        raise UserError(f"{source}: an ablation, with [variants]: it has no trials")
    table = dict(tables.get("search", {}))
    fidelity = read_fidelity(table.pop("fidelity", ()), tables, source)
    base = with_overrides(base_config(tables, source), overrides or {}, source="--set")
    if fidelity and "data.mode" not in (overrides or {}):
        base = with_overrides(base, {"data.mode": HIGH}, source=source)
    parameters = read_parameters(tables.get("space", {}), source)
    search = check_table(SearchSettings, table, f"{source}: [search]")
    limits = (search.trials, search.epochs, search.hours, search.gpu_hours, search.patience)
    if search.sampler != "grid" and not any(limits):
        search = dataclasses.replace(search, trials=DEFAULT_TRIALS)
    resources = check_resources(tables.get("resources", {}), f"{source}: [resources]")
    searched = tuple(p for p in parameters if trained(p, parameters, base.loss.matching))
    space = Space(
        name=file_name(tables, path),
        description=str(tables.get("description", "")),
        base=base,
        parameters=searched,
        sweep=tuple(p for p in parameters if p not in searched),
        search=search,
        resources=resources,
        text=text,
        fidelity=fidelity,
        features=flatten(tables.get("features", {}), source=f"{source}: [features]"),
    )
    for part in parts_of(space):
        check_together(part, source)
    space = _within_size(space, source)
    trials = space.search.trials or space.size or 0
    if fidelity and 0 < trials <= search.promote:
        raise UserError(
            f"{source}: [search] promote = {search.promote} is no choice among trials = {trials}, the default one "
            f"included; at most {trials - 1}"
        )
    return space


def trial_decode_grid(config_file: Path, config: Config) -> tuple[DecodeConfig, ...]:
    """What the trial of a search swept whose config.json this is; empty for any other file."""
    folder = config_file.resolve().parent
    definition = folder.parent.parent / "search.toml"
    if folder.parent.name != "trials" or not definition.is_file():
        return ()
    space = load_space(definition, to_flat(config))
    return space.decode_grid()


def recipe(path_or_name: str | Path, *, own: bool = False) -> Config:
    """The default configuration of a search: its `[base]` over the published recipe.

    With `own`, a name without a search space is the user's own data set, trained by the published recipe.
    """
    name = str(path_or_name)
    if own and re.fullmatch(_NAME, name) and not (SPACES / f"{name}.toml").is_file():
        return from_dict({"data.name": name}, source=name)
    path = find_space(path_or_name)
    return base_config(read_tables(path)[1], shown_path(path))


def find_space(path_or_name: str | Path) -> Path:
    """The TOML file: a path as it is, a name in the project's search_spaces."""
    given = Path(path_or_name)
    if given.suffix == ".toml" or len(given.parts) != 1:
        if given.is_file():
            return given
        raise UserError(f"{given}: no such search space file")
    path = SPACES / f"{path_or_name}.toml"
    if path.is_file():
        return path
    hint = nearest(given.name, (p.stem for p in SPACES.glob("*.toml")))
    raise UserError(f"no search named {given.name!r} in {shown_path(SPACES)}; {hint}")


def read_tables(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a search or ablation file and its tables, their names checked. Raises UserError."""
    source = shown_path(path)
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not valid TOML: {error}") from error
    known = ("name", "description", "base", "features", "space", "variants", "search", "resources")
    check_keys(tables, known, source)
    for table in known[2:]:
        if not isinstance(tables.get(table, {}), dict):
            raise UserError(f"{source}: {table} must be a table, [{table}]")
    return text, tables


def file_name(tables: Mapping[str, Any], path: Path) -> str:
    """What the file calls itself, and so the directory of its results."""
    name = tables.get("name", path.stem)
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise UserError(f"{shown_path(path)}: name must be letters, digits, _ or -, but got {name!r}")
    return name


def base_config(tables: Mapping[str, Any], source: str) -> Config:
    """The `[base]` table over the published recipe."""
    return from_dict(tables.get("base", {}), source=f"{source}: [base]")


def _within_size(space: Space, source: str) -> Space:
    """`space` with a budget of at most every configuration once; of a grid search that sets none, all of them."""
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


def shown_path(path: Path) -> str:
    """The path as an error names it: short where it is below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

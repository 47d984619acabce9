"""Search spaces: one TOML file a search, read and checked against the configuration before anything starts.

A file holds `[base]` (the default configuration, trial 0), `[space]` (what is searched: values or a range a key),
`[search]` (sampler, early stopping, budget) and `[resources]` (of one worker of one trial). Files with `[variants]`
instead of `[space]` are ablations, see tune.ablation. Imports neither Ray nor torch, so that a mistake in a file is
answered at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import (
    Config,
    DecodeConfig,
    Setting,
    find_setting,
    from_dict,
    setting,
    to_dict,
    to_flat,
    with_overrides,
)
from nmt.errors import UserError, nearest

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

SPACES = Path(__file__).resolve().parent.parent / "search_spaces"
"""the search spaces of the project"""

NOT_SEARCHABLE = {
    "data.name": "trials on different data cannot be compared",
    "data.mode": "a search runs in one mode",
    "data.image_size": "the data set is stored at one size",
    "data.eval_pairs": "it changes what is measured",
    "train.epochs": "early stopping compares trials by epoch",
    "train.seed": "a lucky seed is not a better configuration",
    "train.micro_batch": "it changes the memory a trial takes, not its result",
}
MAX_GRID = 100_000
_NAME = r"[A-Za-z0-9_-]+"


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The `[search]` table."""

    sampler: str = setting("tpe", "how configurations are chosen", choices=("tpe", "random", "grid"))
    scheduler: str = setting(
        "asha",
        "early stopping: halving by promotion, or by stopping, Hyperband's brackets, Ray's own two, or none",
        choices=("asha", "hyperband", "asha_stop", "ray_asha", "ray_median", "fifo"),
    )
    trials: int = setting(16, "configurations to try, the default one included", low=1)
    seed: int = setting(0, "of the sampler", low=0, high=2**31 - 1)
    grace_epochs: int = setting(1, "epochs before a trial may be stopped", low=1)
    reduction_factor: int = setting(3, "one trial in this many goes on at each rung", low=2)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The `[resources]` table: what one worker of a trial takes."""

    cpus: int = setting(1, "CPU cores a worker", low=1)
    gpus: float = setting(0.0, "GPUs a worker; a fraction lets trials share one", low=0)
    workers: int = setting(1, "data-parallel workers a trial", low=1)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One searched key: either `values`, or a range from `low` to `high`, both inclusive."""

    key: str
    type: type
    values: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False

    def contains(self, value: Any) -> bool:
        if self.values is not None:
            return value in self.values
        assert self.low is not None and self.high is not None
        steps: float = (value - self.low) / self.step if self.step else 0.0
        return bool(self.low <= value <= self.high) and abs(steps - round(steps)) < 1e-9

    def choices(self) -> tuple[Any, ...] | None:
        """Every value the parameter can take; None if they are not countable."""
        if self.values is not None:
            return self.values
        if self.step is None:
            return None
        assert self.low is not None and self.high is not None
        count = round((self.high - self.low) / self.step) + 1
        return tuple(self.type(round(self.low + i * self.step, 12)) for i in range(count))

    def encode(self, value: Any) -> Any:
        """The value as the study and TensorBoard hold it: a number, a truth value or a short string."""
        return json.dumps(list(value)) if self.type is tuple else value

    def decode(self, encoded: Any) -> Any:
        return tuple(json.loads(encoded)) if self.type is tuple else self.type(encoded)

    def describe(self) -> str:
        """The range in words, for the report."""
        if self.values is not None:
            return ", ".join(_shown(v) for v in self.values)
        note = " (log)" if self.log else f" by {_shown(self.step)}" if self.step not in (None, 1) else ""
        return f"{_shown(self.low)} to {_shown(self.high)}{note}"

    def to_dict(self) -> dict[str, Any]:
        """As in the TOML file."""
        if self.values is not None:
            return {"values": [list(v) if self.type is tuple else v for v in self.values]}
        spec: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.log:
            return spec | {"log": True}
        return spec if self.step is None else spec | {"step": self.step}


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

    @property
    def default_params(self) -> dict[str, Any]:
        """The searched keys at their values in the default configuration: trial 0."""
        flat = to_flat(self.base)
        return {p.key: tuple(flat[p.key]) if p.type is tuple else flat[p.key] for p in self.parameters}

    def configuration(self, params: Mapping[str, Any]) -> Config:
        """The whole configuration of a trial with these searched values."""
        return with_overrides(self.base, params, source=f"search {self.name}")

    def with_budget(self, *, trials: int | None = None, seed: int | None = None) -> Space:
        """With another number of trials or sampler seed (--trials, --seed) where given."""
        given = {"trials": trials, "seed": seed}
        values = dataclasses.asdict(self.search) | {k: v for k, v in given.items() if v is not None}
        search = check_table(SearchSettings, values, "--trials, --seed")
        if search.sampler == "grid":
            search = _grid_search(search, self.parameters, True, self.name)
        return dataclasses.replace(self, search=search)

    def decode_grid(self) -> tuple[DecodeConfig, ...]:
        """Every swept decode setting, the default one first; empty if none is searched."""
        if not self.sweep:
            return ()
        names = [p.key.removeprefix("decode.") for p in self.sweep]
        combinations = itertools.product(*(p.values or () for p in self.sweep))
        grid = [dataclasses.replace(self.base.decode, **dict(zip(names, c, strict=True))) for c in combinations]
        return (self.base.decode, *(d for d in grid if d != self.base.decode))

    def grid(self) -> list[dict[str, Any]]:
        """Every configuration of a countable space, the default one first."""
        keys = [p.key for p in self.parameters]
        combinations = itertools.product(*(p.choices() or () for p in self.parameters))
        points = [dict(zip(keys, c, strict=True)) for c in combinations]
        default = self.default_params
        return [default, *(p for p in points if p != default)]

    def variants(self, keys: Sequence[str]) -> list[Config]:
        """The configurations that differ in those of `keys` that are searched by values, the rest at the default."""
        chosen = [p for p in self.parameters if p.key in keys]
        combinations = itertools.product(*(p.choices() or () for p in chosen))
        return [self.configuration(dict(zip((p.key for p in chosen), c, strict=True))) for c in combinations]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as search.json holds them."""
        return {
            "name": self.name,
            "description": self.description,
            "base": to_dict(self.base),
            "space": {p.key: p.to_dict() for p in (*self.parameters, *self.sweep)},
            "search": dataclasses.asdict(self.search),
            "resources": dataclasses.asdict(self.resources),
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
    base = with_overrides(base_config(tables, source), overrides or {}, source="--set")
    parameters = _parameters(tables.get("space", {}), source)
    search = check_table(SearchSettings, tables.get("search", {}), f"{source}: [search]")
    resources = check_table(Resources, tables.get("resources", {}), f"{source}: [resources]")
    searched = tuple(p for p in parameters if not p.key.startswith("decode."))
    if search.sampler == "grid":
        search = _grid_search(search, searched, "trials" in tables.get("search", {}), source)
    space = Space(
        name=file_name(tables, path),
        description=str(tables.get("description", "")),
        base=base,
        parameters=searched,
        sweep=tuple(p for p in parameters if p.key.startswith("decode.")),
        search=search,
        resources=resources,
        text=text,
    )
    _check_together(space, source)
    return space


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
    known = ("name", "description", "base", "space", "variants", "search", "resources")
    _check_keys(tables, known, source)
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


def _grid_search(search: SearchSettings, parameters: Sequence[Parameter], given: bool, source: str) -> SearchSettings:
    """`search` with a budget of at most the grid, and of all of it where the file gives none."""
    size = 1
    for parameter in parameters:
        choices = parameter.choices()
        if choices is None:
            raise UserError(f'{source}: sampler = "grid" needs values or a step for {parameter.key}')
        size *= len(choices)
    if size > MAX_GRID:
        raise UserError(f"{source}: a grid of {size} configurations, more than {MAX_GRID}; give fewer values")
    return dataclasses.replace(search, trials=min(search.trials, size) if given else size)


T = typing.TypeVar("T", bound="DataclassInstance")


def check_table(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """The table `values` as a `kind`, each entry checked against its field."""
    hints = typing.get_type_hints(kind)
    known = {
        f.name: Setting(key=f.name, type=hints[f.name], default=f.default, **f.metadata)
        for f in dataclasses.fields(kind)
    }
    _check_keys(values, known, source)
    return kind(**{name: known[name].check(value, source=source) for name, value in values.items()})


def _check_keys(given: Iterable[str], known: Iterable[str], source: str) -> None:
    names = list(known)
    for key in given:
        if key not in names:
            raise UserError(f"{source}: unknown key {key!r}; {nearest(key, names)}")


def _parameters(table: Mapping[str, Any], source: str) -> list[Parameter]:
    """The `[space]` table, keys dotted or nested."""
    found = []
    branches = {f.name for f in dataclasses.fields(Config)}
    for key, spec in table.items():
        nested = key in branches and isinstance(spec, dict)
        specs = {f"{key}.{name}": inner for name, inner in spec.items()} if nested else {key: spec}
        found += [_parameter(full, inner, f"{source}: [space]") for full, inner in specs.items()]
    return found


def _parameter(key: str, spec: Any, source: str) -> Parameter:
    known = find_setting(key, source=source)
    if key in NOT_SEARCHABLE:
        raise UserError(f"{source}: {key} cannot be searched: {NOT_SEARCHABLE[key]}; set it in [base]")
    if not isinstance(spec, dict):
        raise UserError(f"{source}: {key} needs {{ low = .., high = .. }} or {{ values = [..] }}, but got {spec!r}")
    where = f"{source} {key}"
    if "values" in spec:
        _check_keys(spec, ("values",), where)
        return _choice(known, spec["values"], where)
    _check_keys(spec, ("low", "high", "step", "log", "values"), where)
    if known.inference:
        raise UserError(f"{where} is read at inference, where every value is tried: give values = [..]")
    if known.type not in (int, float) or known.choices:
        raise UserError(f"{where} is {known.allowed}: give values = [..]")
    return _range(known, spec, where)


def _choice(known: Setting, values: Any, where: str) -> Parameter:
    if not isinstance(values, list) or len(values) < 2:
        raise UserError(f"{where}: values must list at least two, but got {values!r}; one value belongs in [base]")
    checked = tuple(known.check(v, source=where) for v in values)
    if len(set(checked)) != len(checked):
        raise UserError(f"{where}: the same value twice in {values!r}")
    return Parameter(key=known.key, type=known.type, values=checked)


def _range(known: Setting, spec: Mapping[str, Any], where: str) -> Parameter:
    missing = [side for side in ("low", "high") if side not in spec]
    if missing:
        raise UserError(f"{where}: {missing[0]} is missing; a range is {{ low = .., high = .. }}")
    low, high = (known.check(spec[side], source=f"{where} {side}") for side in ("low", "high"))
    log = spec.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{where}: log must be true or false, but got {log!r}")
    if low >= high:
        raise UserError(f"{where}: low must be below high, but got low = {low!r}, high = {high!r}")
    if log and low <= 0:
        raise UserError(f"{where}: a log range must begin above 0, but got low = {low!r}")
    step = _step(known, spec, low, high, log, where)
    return Parameter(key=known.key, type=known.type, low=low, high=high, step=step, log=log)


def _step(known: Setting, spec: Mapping[str, Any], low: float, high: float, log: bool, where: str) -> float | None:
    if "step" not in spec:
        return 1 if known.type is int else None
    step = spec["step"]
    if isinstance(step, bool) or not isinstance(step, int | float) or step <= 0 or known.type(step) != step:
        raise UserError(f"{where}: step must be a positive {known.type.__name__}, but got {step!r}")
    if log:
        raise UserError(f"{where}: a log range has no step; leave one of the two out")
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-9:
        below = low + int(steps) * step
        raise UserError(f"{where}: steps of {step!r} from {low!r} do not meet high = {high!r}; nearest: {below:g}")
    return step


def _check_together(space: Space, source: str) -> None:
    """What holds between the tables."""
    if not space.parameters:
        rest = " (decode settings cost no training: one --train and --evaluate tell them)" if space.sweep else ""
        raise UserError(f"{source}: no free parameter in [space]{rest}")
    flat = to_flat(space.base)
    for parameter in (*space.parameters, *space.sweep):
        value = tuple(flat[parameter.key]) if parameter.type is tuple else flat[parameter.key]
        if not parameter.contains(value):
            raise UserError(
                f"{source}: [space] {parameter.key} is {parameter.describe()}, which leaves out its default "
                f"{_shown(value)} (trial 0); change the range, or the value in [base] or --set"
            )
    search, epochs = space.search, space.base.train.epochs
    if search.scheduler != "fifo" and search.grace_epochs > epochs:
        raise UserError(f"{source}: [search] grace_epochs = {search.grace_epochs} is more than train.epochs = {epochs}")
    _check_widths(space, source)
    for parameter in space.parameters:
        for value in parameter.values or (parameter.low, parameter.high):
            if parameter.key not in ("model.d_model", "model.heads"):
                with_overrides(space.base, {parameter.key: value}, source=f"{source}: [space]")


def _check_widths(space: Space, source: str) -> None:
    """Every d_model must be a multiple of every number of heads that it can meet."""
    pair = [p for p in space.parameters if p.key in ("model.d_model", "model.heads")]
    for values in itertools.product(*(p.choices() or (p.low, p.high) for p in pair)):
        overrides = dict(zip((p.key for p in pair), values, strict=True))
        with_overrides(space.base, overrides, source=f"{source}: [space]")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def shown_path(path: Path) -> str:
    """The path as an error names it: short where it is below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

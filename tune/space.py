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
import math
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import (
    Config,
    DecodeConfig,
    Setting,
    flatten,
    from_dict,
    setting,
    to_dict,
    to_flat,
    with_overrides,
)
from nmt.errors import UserError, nearest
from nmt.packable import check_packable
from tune.fidelity import HIGH, STORED, Given, check_effects, read_fidelity
from tune.fidelity import parts as parts_of
from tune.parameter import Parameter, check_conditions, check_keys, check_swept, read_parameters, shown, trained

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

SPACES = Path(__file__).resolve().parent.parent / "search_spaces"
"""the search spaces of the project"""

MAX_GRID = 100_000
DEFAULT_TRIALS = 16
OBJECTIVES = ("val/accuracy", "decoder_parameters", "inference_seconds")
_NAME = r"[A-Za-z0-9_-]+"


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The `[search]` table."""

    sampler: str = setting(
        "tpe",
        "how configurations are chosen",
        choices=("tpe", "gp", "cmaes", "nsga2", "random", "qmc", "grid"),
    )
    objectives: tuple[str, ...] = setting(
        ("val/accuracy",), "what is maximised, and what is minimised beside it", choices=OBJECTIVES
    )
    warm_start: str = setting("", "directory or study.db of a search over the same keys, whose trials the sampler sees")
    scheduler: str = setting(
        "asha",
        "early stopping: halving by promotion, or by stopping, Hyperband's brackets, Ray's own two, or none",
        choices=("asha", "hyperband", "asha_stop", "ray_asha", "ray_median", "fifo"),
    )
    trials: int = setting(0, "limit: configurations to try, the default one included (16 where no limit is set)", low=1)
    epochs: int = setting(0, "limit: epochs trained in all", low=1)
    hours: float = setting(0.0, "limit: hours on the clock, over all runs of the search", above=0)
    gpu_hours: float = setting(0.0, "limit: hours of training x GPUs", above=0)
    patience: int = setting(0, "limit: trials in a row without a better value after the first rung", low=1)
    seed: int = setting(0, "of the sampler", low=0, high=2**31 - 1)
    grace_epochs: int = setting(1, "epochs before a trial may be stopped", low=1)
    reduction_factor: int = setting(3, "one trial in this many goes on at each rung", low=2)
    promote: int = setting(8, "with fidelity: the best on features that train on images, beside the default", low=1)
    hang_minutes: float = setting(120.0, "silence before a trial's first epoch that is taken for a hang", low=0)
    max_failures_in_a_row: int = setting(6, "trials that fail one after the other and stop the search", low=1)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The `[resources]` table: what one worker of a trial takes."""

    cpus: int = setting(1, "CPU cores a worker", low=1)
    gpus: float = setting(0.0, "GPUs a worker; a fraction lets trials share one", low=0)
    workers: int = setting(
        1, "data-parallel workers a trial; [fewest, most] goes on with fewer when some are lost and grows again", low=1
    )
    packed: int = setting(1, "trials of equal shape that train in one process, on the same batches", low=1)
    fewest: int = 0
    """workers with which a trial still goes on; `workers` where the table gives one number"""

    def __post_init__(self) -> None:
        if not self.fewest:
            object.__setattr__(self, "fewest", self.workers)

    def of_workers(self, fewest: int, most: int, *, source: str) -> Resources:
        """With another number of workers. Raises UserError where that is no range."""
        if not 1 <= fewest <= most:
            raise UserError(f"{source}: workers must be at least 1, fewest before most, but got {fewest} and {most}")
        return dataclasses.replace(self, workers=most, fewest=fewest)


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
        return {key: values[key] for key in values if key in self.active_keys(values)}

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

    def size(self) -> int | None:
        """How many configurations there are; None where they are not countable, or more than MAX_GRID."""
        choices = [p.choices() or () for p in self.parameters]
        return len(self.grid()) if 0 < math.prod(map(len, choices)) <= MAX_GRID else None

    def grid(self) -> list[dict[str, Any]]:
        """Every configuration of a countable space, the default one first."""
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
        _check_together(part, source)
    if fidelity and 0 < search.trials <= search.promote:
        raise UserError(
            f"{source}: [search] promote = {search.promote} is no choice among trials = {search.trials}, the default "
            f"one included; at most {search.trials - 1}"
        )
    return _within_size(space, source)


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
    """`space` with a budget of at most every configuration once."""
    size = space.size()
    if size is None:
        if space.search.sampler == "grid":
            raise UserError(f"{source}: {_why_no_grid(space)}")
        return space
    search = dataclasses.replace(space.search, trials=min(space.search.trials or size, size))
    return dataclasses.replace(space, search=search)


def _why_no_grid(space: Space) -> str:
    for parameter in space.parameters:
        if parameter.choices() is None:
            return f'sampler = "grid" needs values or a step for {parameter.key}'
    count = math.prod(len(p.choices() or ()) for p in space.parameters)
    return f"a grid of {count} configurations, more than {MAX_GRID}; give fewer values"


T = typing.TypeVar("T", bound="DataclassInstance")


def check_table(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """The table `values` as a `kind`, each entry checked against its field."""
    hints = typing.get_type_hints(kind)
    known = {
        f.name: Setting(
            key=f.name, type=typing.get_origin(hints[f.name]) or hints[f.name], default=f.default, **f.metadata
        )
        for f in dataclasses.fields(kind)
        if f.metadata
    }
    check_keys(values, known, source)
    return kind(**{name: known[name].check(value, source=source) for name, value in values.items()})


def check_resources(values: Mapping[str, Any], source: str) -> Resources:
    """The `[resources]` table, whose workers are a number or [fewest, most]."""
    workers = values.get("workers")
    if not isinstance(workers, list):
        return check_table(Resources, values, source)
    if len(workers) != 2 or any(type(number) is not int for number in workers):
        raise UserError(f"{source}: workers must be a number or [fewest, most], but got {json.dumps(workers)}")
    others = {key: value for key, value in values.items() if key != "workers"}
    return check_table(Resources, others, source).of_workers(*workers, source=source)


def _check_together(space: Space, source: str) -> None:
    """What holds between the tables."""
    if not space.parameters:
        rest = " (decode settings cost no training: one --train and --evaluate tell them)" if space.sweep else ""
        raise UserError(f"{source}: no free parameter in [space]{rest}")
    for parameter in space.sweep:
        check_swept(parameter, source)
    check_conditions((*space.parameters, *space.sweep), source)
    flat = to_flat(space.base)
    for parameter in (*space.parameters, *space.sweep):
        value = tuple(flat[parameter.key]) if parameter.type is tuple else flat[parameter.key]
        if not parameter.contains(value):
            raise UserError(
                f"{source}: [space] {parameter.key} is {parameter.describe()}, which leaves out its default "
                f"{shown(value)} (trial 0); change the range, or the value in [base] or --set"
            )
    search, epochs = space.search, space.base.train.epochs
    if search.sampler == "cmaes" and all(p.values and not p.ordered for p in space.parameters):
        raise UserError(
            f'{source}: [search] sampler = "cmaes" moves in ranges and numbers, and [space] has names alone; take "tpe"'
        )
    if search.scheduler != "fifo" and search.grace_epochs > epochs:
        raise UserError(f"{source}: [search] grace_epochs = {search.grace_epochs} is more than train.epochs = {epochs}")
    if 0 < search.epochs < 2 * epochs:
        raise UserError(
            f"{source}: [search] epochs = {search.epochs} is not enough for the default configuration and one more at "
            f"train.epochs = {epochs}; at least {2 * epochs}"
        )
    if search.gpu_hours and not space.resources.gpus:
        raise UserError(f"{source}: [search] gpu_hours limits nothing: a trial takes no GPU ([resources] gpus = 0)")
    _check_objectives(search, source)
    _check_packed(space, source)
    _check_widths(space, source)
    _check_pairs(space, source)
    check_effects(space, source)
    for parameter in space.parameters:
        for value in parameter.values or (parameter.low, parameter.high):
            if parameter.key not in ("model.d_model", "model.heads"):
                with_overrides(space.base, {parameter.key: value}, source=f"{source}: [space]")


def _check_packed(space: Space, source: str) -> None:
    """What trains packed is a head on features, in one process, that no scheduler stops in mid-job."""
    if space.resources.packed == 1:
        return
    where = f"{source}: [resources] packed = {space.resources.packed}"
    if space.resources.workers > 1:
        raise UserError(f"{where} trains in one process: workers must be 1, but is {space.resources.workers}")
    if space.search.scheduler not in ("asha", "hyperband", "fifo"):
        raise UserError(f'{where} needs scheduler "asha", "hyperband" or "fifo", but got "{space.search.scheduler}"')
    if "inference_seconds" in space.search.objectives:
        raise UserError(f"{where} measures no trial's own inference_seconds: packed must be 1 for that objective")
    try:
        check_packable([space.base])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_pairs(space: Space, source: str) -> None:
    """Every worker needs a pair in every step."""
    searched = next((p for p in space.parameters if p.key == "data.pairs_per_step"), None)
    pairs = space.base.data.pairs_per_step
    smallest = min(searched.values or (searched.low,)) if searched else pairs
    if smallest < space.resources.workers:
        raise UserError(
            f"{source}: [resources] workers = {space.resources.workers} is more than data.pairs_per_step = "
            f"{smallest:g}: a worker would have no pair"
        )


def _check_objectives(search: SearchSettings, source: str) -> None:
    """Which samplers and schedulers go with several objectives, and which samplers with a warm start."""
    names = search.objectives
    if not names or names[0] != OBJECTIVES[0] or len(set(names)) != len(names):
        raise UserError(f'{source}: [search] objectives begin with "val/accuracy", each once, but got {list(names)}')
    if len(names) > 1 and search.scheduler != "fifo":
        raise UserError(
            f'{source}: [search] several objectives go with scheduler = "fifo", which trains every trial in full; '
            f'"{search.scheduler}" compares by accuracy alone'
        )
    if len(names) > 1 and search.sampler == "cmaes":
        raise UserError(
            f'{source}: [search] sampler = "cmaes" has one objective; take "nsga2", "tpe" or "gp" for several'
        )
    if search.warm_start and (len(names) > 1 or search.sampler not in ("tpe", "gp", "cmaes")):
        raise UserError(f'{source}: [search] warm_start goes with one objective and sampler = "tpe", "gp" or "cmaes"')


def _check_widths(space: Space, source: str) -> None:
    """Every d_model must be a multiple of every number of heads that it can meet."""
    pair = [p for p in space.parameters if p.key in ("model.d_model", "model.heads")]
    for values in itertools.product(*(p.choices() or (p.low, p.high) for p in pair)):
        overrides = dict(zip((p.key for p in pair), values, strict=True))
        with_overrides(space.base, overrides, source=f"{source}: [space]")


def shown_path(path: Path) -> str:
    """The path as an error names it: short where it is below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

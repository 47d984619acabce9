"""Search spaces: one TOML file a search, read and checked against the configuration before anything starts.

A file holds `[base]` (the default configuration, trial 0), `[space]` (what is searched: values or a range a key),
`[search]` (sampler, early stopping, budget) and `[resources]` (of one worker of one trial). Files with `[variants]`
instead of `[space]` are ablations, see tune.evidence.ablation. Imports neither Ray nor torch, so that a mistake in a
file is
answered at once.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.config import Config, DecodeConfig, flatten, from_dict, to_flat, with_overrides
from nmt.errors import UserError, nearest
from tune.spaces.fidelity import HIGH, read_fidelity
from tune.spaces.parameter import check_keys, read_parameters, trained
from tune.spaces.rules import check_together
from tune.spaces.settings import DEFAULT_TRIALS, SearchSettings, check_resources, check_table
from tune.spaces.space import Space, _within_size
from tune.spaces.stages import parts as parts_of

SPACES = Path(__file__).resolve().parents[2] / "search_spaces"
"""the search spaces of the project"""
_NAME = r"[A-Za-z0-9_-]+"


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


def shown_path(path: Path) -> str:
    """The path as an error names it: short where it is below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

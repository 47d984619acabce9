"""Read search spaces: one TOML file per search, checked against the configuration before anything starts.

A file holds `[base]` (the default configuration, trial 0), `[space]` (what is searched: values or a range per key),
`[search]` (sampler, early stopping, budget) and `[resources]` (of one worker of one trial). Files with `[variants]`
instead of `[space]` are ablations (tune/evidence/ablation.py). Imports neither Ray nor torch, so that a mistake in a
file is answered at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.config import flatten, with_overrides
from nmt.errors import UserError
from nmt.recipes import RecipeFile, read_recipe
from tune.spaces.fidelity import HIGH, read_fidelity
from tune.spaces.parameter import read_parameters, trained
from tune.spaces.rules import check_together
from tune.spaces.samplers import check_sampler
from tune.spaces.settings import DEFAULT_TRIALS, SearchSettings, check_resources, check_table
from tune.spaces.space import Space, within_size
from tune.spaces.stages import parts as parts_of


def load_space(given: str | Path | RecipeFile, overrides: Mapping[str, Any] | None = None) -> Space:
    """Load the search space in a TOML file and check all of it.

    Args:
        given: path of the file, its name in search_spaces/, or the file as read already.
        overrides: configuration keys to change in its base (--set).

    Raises:
        UserError: anything wrong in the file: what, where, and what would be right.
    """
    file = given if isinstance(given, RecipeFile) else read_recipe(given)
    source, tables = file.source, file.tables
    if file.is_ablation:
        raise UserError(f"{source}: an ablation, with [variants]: it has no trials")
    if not tables.get("space"):
        raise UserError(f"{source}: a recipe without [space]: nothing to search; train it with --train")
    table = dict(tables.get("search", {}))
    fidelity = read_fidelity(table.pop("fidelity", ()), tables, source)
    base = with_overrides(file.base(), overrides or {}, source="--set")
    if fidelity and "data.mode" not in (overrides or {}):
        base = with_overrides(base, {"data.mode": HIGH}, source=source)
    parameters = read_parameters(tables.get("space", {}), source)
    search = check_table(SearchSettings, table, f"{source}: [search]")
    check_sampler(search.sampler, f"{source}: [search]")
    limits = (search.trials, search.epochs, search.hours, search.gpu_hours, search.patience)
    if search.sampler != "grid" and not any(limits):
        search = dataclasses.replace(search, trials=DEFAULT_TRIALS)
    resources = check_resources(tables.get("resources", {}), f"{source}: [resources]")
    searched = tuple(p for p in parameters if trained(p, parameters, base.loss.matching))
    space = Space(
        name=file.name,
        description=file.description,
        base=base,
        parameters=searched,
        sweep=tuple(p for p in parameters if p not in searched),
        search=search,
        resources=resources,
        text=file.text,
        file=str(file.path.resolve()),
        fidelity=fidelity,
        features=flatten(tables.get("features", {}), source=f"{source}: [features]"),
    )
    for part in parts_of(space):
        check_together(part, source)
    space = within_size(space, source)
    trials = space.search.trials or space.size or 0
    if fidelity and 0 < trials <= search.promote:
        raise UserError(
            f"{source}: [search] promote = {search.promote} is no choice among trials = {trials}, the default one "
            f"included; at most {trials - 1}"
        )
    return space

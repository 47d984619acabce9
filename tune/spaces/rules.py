"""Check what must fit together in a search space: keys, budget, sampler, scheduler, resources."""

from __future__ import annotations

import dataclasses
import itertools
import typing

from nmt.config import Config, to_flat, with_overrides
from nmt.errors import UserError
from tune.spaces.fidelity import HIGH, LOW, ON_IMAGES, without_effect
from tune.spaces.packs import check_packs
from tune.spaces.parameter import check_conditions, check_swept, shown
from tune.spaces.settings import OBJECTIVES, SearchSettings, parse_workers
from tune.spaces.stages import parts

if typing.TYPE_CHECKING:
    from tune.spaces.space import Space


def check_together(space: Space, source: str) -> None:
    """Check what must hold between the tables. Raises UserError."""
    check_validates(space.base, source)
    if not space.parameters:
        rest = " (decode keys cost no training: one --train and --evaluate compare them)" if space.sweep else ""
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
    if 0 < search.epochs < (least := (2 + search.reselect) * epochs):
        repeats = f", and {search.reselect} trained again (reselect)," if search.reselect else ""
        raise UserError(
            f"{source}: [search] epochs = {search.epochs} is not enough for the default configuration and one more"
            f"{repeats} at train.epochs = {epochs}; at least {least}"
        )
    if search.gpu_hours and not space.resources.gpus:
        raise UserError(f"{source}: [search] gpu_hours limits nothing: a trial takes no GPU ([resources] gpus = 0)")
    _check_objectives(search, source)
    check_packs(space, source)
    _check_widths(space, source)
    _check_workers(space, source)
    check_effects(space, source)
    for parameter in space.parameters:
        for value in parameter.values or (parameter.low, parameter.high):
            if parameter.key not in ("model.d_model", "model.heads"):
                with_overrides(space.base, {parameter.key: value}, source=f"{source}: [space]")


def with_workers(space: Space, text: str | None) -> Space:
    """Return the space with the workers of each trial that --workers asks for; the same space for None.

    Raises:
        UserError: no number of workers, or one that does not go with the other settings of the search.
    """
    if text is None:
        return space
    source, asked = f"--workers {text}", parse_workers(text)
    resources = space.resources.of_workers(asked.fewest, asked.workers, source=source)
    space = dataclasses.replace(space, resources=resources)
    for part in parts(space):
        check_packs(part, source)
        _check_workers(part, source)
    return space


def check_validates(config: Config, source: str) -> None:
    """Raise UserError where val is trained on, so that trainings cannot be compared by it."""
    if not config.data.validates:
        raise UserError(
            f'{source}: data.train_split = "{config.data.train_split}" leaves no val to compare trainings by; set it '
            'to "train" (--confirm NAME --final trains the winner and the default on both)'
        )


def _check_workers(space: Space, source: str) -> None:
    """Check that every worker has a pair in every step."""
    workers = space.resources.workers
    searched = next((p for p in space.parameters if p.key == "data.pairs_per_step"), None)
    pairs = space.base.data.pairs_per_step
    smallest = min(searched.values or (searched.low,)) if searched else pairs
    if smallest < workers:
        raise UserError(
            f"{source}: [resources] workers = {workers} is more than data.pairs_per_step = "
            f"{smallest:g}: a worker would have no pair"
        )


def _check_objectives(search: SearchSettings, source: str) -> None:
    """Check which samplers and schedulers go with several objectives or with a warm start."""
    names = search.objectives
    if not names or names[0] != OBJECTIVES[0] or len(set(names)) != len(names):
        raise UserError(f'{source}: [search] objectives begin with "val/accuracy", each once, but got {list(names)}')
    if len(names) > 1 and search.scheduler != "fifo":
        raise UserError(
            f'{source}: [search] several objectives go with scheduler = "fifo", which trains every trial in full; '
            f'"{search.scheduler}" compares by accuracy alone'
        )
    if search.reselect and (len(names) > 1 or search.scheduler not in ("asha", "hyperband", "fifo")):
        raise UserError(
            f'{source}: [search] reselect goes with one objective and scheduler = "asha", "hyperband" or "fifo", which '
            "stop no trial in mid-job"
        )
    if len(names) > 1 and search.sampler in ("cmaes", "gp_curves"):
        raise UserError(
            f'{source}: [search] sampler = "{search.sampler}" has one objective; take "nsga2", "tpe" or "gp" for '
            "several"
        )
    if search.warm_start and (len(names) > 1 or search.sampler not in ("tpe", "gp", "gp_curves", "cmaes")):
        raise UserError(
            f'{source}: [search] warm_start goes with one objective and sampler = "tpe", "gp", "gp_curves" or "cmaes"'
        )


def _check_widths(space: Space, source: str) -> None:
    """Check that every d_model is a multiple of every number of heads that it can meet."""
    pair = [p for p in space.parameters if p.key in ("model.d_model", "model.heads")]
    for values in itertools.product(*(p.choices() or (p.low, p.high) for p in pair)):
        overrides = dict(zip((p.key for p in pair), values, strict=True))
        with_overrides(space.base, overrides, source=f"{source}: [space]")


def check_effects(space: Space, source: str) -> None:
    """Check that every trial reads what is searched. Raises UserError."""
    mode = space.base.data.mode
    other = LOW if mode == HIGH else HIGH
    for parameter in space.parameters:
        why = without_effect(space.base, parameter.key)
        if why is not None:
            raise UserError(
                f"{source}: [space] {parameter.key} has no effect on {mode} ({why}); set it in [base], or search it "
                f'with data.mode = "{other}" alone'
            )
        if mode == LOW and parameter.key in ON_IMAGES and parameter.values is None:
            raise UserError(
                f"{source}: [space] {parameter.key} on {LOW} needs stored views for each of its values: give "
                f"values = [..], and prepare each with --set {parameter.key}=VALUE --views {space.base.data.views}"
            )

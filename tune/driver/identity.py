"""Which search a folder of results holds: its definition, and whether it is the one that is asked for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.config import comparable, differences, from_dict, to_flat
from nmt.errors import UserError
from nmt.io.files import atomic_write, write_json
from tune.results import tensorboard
from tune.results.layout import DEFINITION, LOCK, LOG, SPACE
from tune.spaces.settings import SearchSettings
from tune.spaces.space import Space


def check_results(
    space: Space, directory: Path, *, resume: bool, trials: int | None = None, seed: int | None = None
) -> Space:
    """The space with its budget: as given, else of the search in `directory` that is resumed, else its own.

    Raises UserError where `directory` is not free, or with `resume` holds another search.
    """
    definition = directory / DEFINITION
    if not definition.is_file():
        if directory.exists() and any(path.name not in (LOCK, LOG) for path in directory.iterdir()):
            raise UserError(f"{directory} exists and holds no search; choose another --results")
        return space.with_budget(trials=trials, seed=seed)
    if not resume:
        raise UserError(f"{directory} already holds a search; go on with --resume, or choose another --results")
    try:
        saved = json.loads(definition.read_text())
        remembered = {"trials": saved["search"]["trials"] or None, "seed": saved["search"]["seed"]}
        given = {name: value for name, value in (("trials", trials), ("seed", seed)) if value is not None}
        space = space.with_budget(**remembered | given)
        different = differences(_comparable(saved), _comparable(json.loads(json.dumps(space.to_dict()))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{definition}: not the definition of a search ({error})") from error
    if different:
        raise UserError(f"{directory} holds another search: {different}; choose another --results")
    return space


def _comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the trials of a search comparable; the budget and the resources may change on resume."""
    kept = ("sampler", "objectives", "warm_start", "scheduler", "seed", "grace_epochs", "reduction_factor")
    # Keys newer than the file stand at their default.
    base = from_dict(definition["base"], source=DEFINITION)
    search = json.loads(json.dumps(dataclasses.asdict(SearchSettings()))) | definition["search"]
    return (
        {f"[base] {key}": value for key, value in to_flat(comparable(base)).items()}
        | {f"[space] {k}": v for k, v in definition["space"].items()}
        | {f"[search] {k}": search[k] for k in kept}
        | {k: definition[k] for k in ("fidelity", "features", "given") if k in definition}
    )


def write_definition(space: Space, directory: Path) -> None:
    with atomic_write(directory / SPACE) as file:
        file.write(space.text.encode())
    write_json(directory / DEFINITION, space.to_dict())
    tensorboard.write_experiment(directory, space)

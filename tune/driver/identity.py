"""Check that a folder of results holds the search that was asked for, and write its definition."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nmt.config import comparable, from_dict, to_flat
from nmt.data.store.identity import check_same, data_set_record, saved_record
from nmt.data.store.ready import ReadyData
from nmt.errors import UserError, one_line
from nmt.io.files import atomic_write, write_json
from nmt.settings import differences
from tune.results import tensorboard
from tune.results.layout import DEFINITION, LOCK, LOG, SPACE, TRIALS
from tune.results.log import log
from tune.spaces.rules import with_workers
from tune.spaces.settings import Resources, SearchSettings
from tune.spaces.space import Space

KEPT = ("sampler", "objectives", "warm_start", "scheduler", "seed", "grace_epochs", "reduction_factor")
"""keys of [search] that stay as they are while a search lasts; the others, its limits, may change at each --resume"""
LIMITS = ("trials", "epochs", "hours", "gpu_hours", "patience", "promote")
"""keys of [search] that only the first of two stages follows"""
DATA_SET = "data_set"
"""key of search.json with the record of the data set"""
FILE = "file"
"""key of search.json with the path of the user's TOML file, for the command that continues the search"""
HOME = "storage"
"""key of search.json with the address where the search lives, if that is a storage"""


def check_results(
    space: Space,
    directory: Path,
    *,
    resume: bool,
    trials: int | None = None,
    seed: int | None = None,
    workers: str | None = None,
) -> Space:
    """Return the space with its budget and workers, after a check that `directory` is free or holds this search.

    Trials, seed and workers are the given ones. Else those of the search that is resumed, which may have been given
    too, as long as its file has not changed them. Else those of the space.

    Raises:
        UserError: `directory` is not free, or with `resume` it holds another search.
    """
    definition = directory / DEFINITION
    if not definition.is_file():
        if not _is_free(directory):
            lost = f"; {DEFINITION} is missing: put a copy back to resume it" if (directory / TRIALS).is_dir() else ""
            raise UserError(f"{directory} exists and holds no search{lost}; choose another --results")
        return with_workers(space.with_budget(trials=trials, seed=seed), workers)
    if not resume:
        raise UserError(f"{directory} already holds a search; continue it with --resume, or choose another --results")
    try:
        saved = json.loads(definition.read_text())
        remembered = {"trials": saved["search"]["trials"] or None, "seed": saved["search"]["seed"]}
        for name in _edited(directory / SPACE, space, "search", remembered):
            del remembered[name]
        given = {name: value for name, value in (("trials", trials), ("seed", seed)) if value is not None}
        if workers is None and not _edited(directory / SPACE, space, "resources", ["workers"]):
            workers = _workers_of(saved)
        space = with_workers(space.with_budget(**remembered | given), workers)
        different = differences(_comparable(saved), _comparable(json.loads(json.dumps(space.to_dict()))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{definition}: not the definition of a search ({one_line(error)}); put a copy back to resume it, or "
            "choose another --results"
        ) from error
    if different:
        raise UserError(f"{directory} holds another search: {different}; choose another --results")
    return space


def _is_free(directory: Path) -> bool:
    """True if a new search may begin: there is nothing but what a search leaves that was killed before it began."""
    if not directory.exists():
        return True
    known = (LOCK, LOG, SPACE)
    return all(path.name in known or path.name.startswith(".") for path in directory.iterdir())


def _workers_of(saved: Mapping[str, Any]) -> str | None:
    """Return the workers that each trial of the search had, as --workers has them; None if that is not known."""
    resources = saved.get("resources", {})
    if "workers" not in resources:
        return None
    return Resources(workers=resources["workers"], fewest=resources.get("fewest", 0)).workers_text


def _edited(then: Path, space: Space, table: str, names: Iterable[str]) -> list[str]:
    """Return the keys of a table that the user's file has other values of than at the last run."""
    try:
        before, now = (tomllib.loads(text).get(table, {}) for text in (then.read_text("utf-8"), space.text))
    except (OSError, ValueError):  # nobody can tell, so what is remembered stays
        return []
    return [name for name in names if before.get(name) != now.get(name)]


def say_changed(space: Space, directory: Path) -> None:
    """Log a line with the limits and resources that a resumed search has now, where its last run had others."""
    before = saved_record(directory / DEFINITION)
    if not isinstance(before, Mapping):
        return
    changes = []
    for table in ("search", "resources"):
        then, now = (_as_written(definition.get(table, {})) for definition in (before, space.to_dict()))
        changes += [
            f"[{table}] {name} {_shown(then[name])} -> {_shown(value)}"
            for name, value in now.items()
            if name not in KEPT and name in then and then[name] != value
        ]
    if changes:
        log.info(f"{directory}: changed since the last run, from now on: {'; '.join(changes)}")


def _as_written(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of search.json as a TOML file has it: the workers of an elastic group as a pair."""
    values = dict(table)
    fewest = values.pop("fewest", None)
    if fewest is not None and fewest != values.get("workers"):
        values["workers"] = [fewest, values.get("workers")]
    return values


def check_limits_kept(space: Space, directory: Path) -> None:
    """Check that the limits of a search of two stages are those that its first stage, which is over, has had.

    Raises:
        UserError: one of them has changed.
    """
    before = saved_record(directory / DEFINITION)
    search = before.get("search", {}) if isinstance(before, Mapping) else {}
    for name in LIMITS:
        value = getattr(space.search, name)
        if name in search and search[name] != value:
            raise UserError(
                f"{directory}: its second stage has begun, so [search] {name} can no longer change; it was "
                f"{_shown(search[name])}, and is {_shown(value)} now"
            )


def _shown(value: Any) -> str:
    return "none" if value == 0 else json.dumps(value)


def _comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides whether trials are comparable.

    Budget and resources are left out: they may change when a search is resumed.
    """
    # The file may be older than some keys; these get their defaults.
    base = from_dict(definition["base"], source=DEFINITION)
    search = json.loads(json.dumps(dataclasses.asdict(SearchSettings()))) | definition["search"]
    return (
        {f"[base] {key}": value for key, value in to_flat(comparable(base)).items()}
        | {f"[space] {k}": v for k, v in definition["space"].items()}
        | {f"[search] {k}": search[k] for k in KEPT}
        | {k: definition[k] for k in ("fidelity", "features", "given") if k in definition}
    )


def say_nothing_to_resume(directory: Path, name: str) -> None:
    """Log a line if there is nothing to resume in `directory`: the search or ablation `name` begins anew.

    Results that were renamed are named in it: they belong to the name of the search, not to that of the folder.
    """
    if (directory / DEFINITION).is_file():
        return
    renamed = [path.parent for path in sorted(directory.parent.glob(f"*/{DEFINITION}")) if _name_in(path) == name]
    hint = f"; {renamed[0]} holds a search of this name: to continue it, rename it to {directory}" if renamed else ""
    log.info(f"{directory}: nothing to resume there, so it begins anew{hint}")


def _name_in(definition: Path) -> Any:
    content = saved_record(definition)
    return content.get("name") if isinstance(content, Mapping) else None


def check_data_set(directory: Path, data: ReadyData) -> None:
    """Check that a search, its confirmation or an ablation goes on with the data set that it began with.

    Raises:
        UserError: it is another one.
    """
    definition = saved_record(directory / DEFINITION)
    saved = definition.get(DATA_SET) if isinstance(definition, Mapping) else None
    check_same(saved, data.identity, where=directory, data=data.given)


def with_data_set(definition: Mapping[str, Any], data: ReadyData) -> dict[str, Any]:
    """Return the content of search.json: the definition, and the data set of the search."""
    return {**definition, DATA_SET: data_set_record(data.identity, data.given)}


def check_home(directory: Path) -> None:
    """Check that a search which is resumed from its folder alone does not live at a storage, where its weights are.

    Raises:
        UserError: it does.
    """
    definition = saved_record(directory / DEFINITION)
    address = definition.get(HOME) if isinstance(definition, Mapping) else None
    if address is not None:
        raise UserError(
            f"{directory}: this search lives at {address}, with the weights of its trials; give --storage "
            f"{str(address).rpartition('/')[0]}, or remove {HOME!r} from {DEFINITION} to train unfinished trials anew"
        )


def write_definition(space: Space, directory: Path, data: ReadyData, *, home: str | None = None) -> None:
    """Write search.toml, search.json and the HParams declaration of TensorBoard.

    Args:
        home: address of the search at a storage, if it has one.
    """
    with atomic_write(directory / SPACE) as file:
        file.write(space.text.encode())
    definition = with_data_set(space.to_dict(), data) | {FILE: space.file} | ({HOME: home} if home is not None else {})
    write_json(directory / DEFINITION, definition)
    tensorboard.write_experiment(directory, space)

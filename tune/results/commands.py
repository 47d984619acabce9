"""The commands that continue a search and use its results, spelt so that they are right when copied."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.commands import command, quoted, tool
from nmt.config import from_dict, to_flat
from nmt.errors import UserError
from nmt.io.user_files import is_file
from nmt.recipes import find_recipe, read_recipe, shown_path
from tune.results.layout import BEST_CONFIG, DEFINITION
from tune.results.summary import Summary
from tune.spaces.fidelity import FIDELITIES
from tune.spaces.read import load_space

IMAGES = ("--images", "A.jpg", "B.jpg", "--keypoints", "A.csv", "B.csv")
"""flags of --match with names to replace"""

Command = tuple[str, str]
"""a command, and what it is for"""


def next_commands(summary: Summary, directory: Path) -> list[Command]:
    """List the commands to run after a search, or while it is not finished.

    Args:
        directory: results/NAME, as the user wrote it.
    """
    name = directory.resolve().name  # not the search's own, if its folder was renamed
    places = places_of(summary, directory)
    split, why = ["--split", "test"], "the winner on the test split, once"
    if not summary.has_test:
        split, why = [], "the winner by category, on val: the data set has no test split"
    without_data = {key: value for key, value in places.items() if key in ("results", "storage")}
    commands = [
        (command("--evaluate", name, *split, **places), why),
        (command("--match", name, *IMAGES, **without_data), "match two images with it"),
        (command("--train", directory / BEST_CONFIG, **places | {"storage": None}), "train the winner again"),
        (tensorboard(directory), "compare the trials"),
    ]
    if summary.finished:
        return commands
    own = directory.with_name(summary.name)
    rename = [(quoted("mv", directory, own), "--resume looks for it there")] if name != summary.name else []
    return [*rename, (resume_command(summary, directory), "continue the search"), *commands]


def resume_command(summary: Summary, directory: Path, *more: str) -> str:
    """Spell the command that continues the search in a folder: its file, what --set has changed, and where it lives.

    Args:
        more: further flags and values.
    """
    saved, name = _definition(directory), summary.name
    if name in FIDELITIES and (whole := _definition(directory.parent)).get("fidelity"):
        # A stage is continued by the search that it is part of.
        saved, directory, name = whole, directory.parent, whole["name"]
    given = _file(saved.get("file"), name)
    changed = set_words(_changed(saved, given))
    return command("--search", given, *changed, "--resume", *more, **places_of(summary, directory))


def _file(path: str | None, name: str) -> str:
    """Return the NAME of --search: the name of the search where that leads to its TOML file, else the file's path.

    A path that is not here is that of another machine, or of a checkout that was moved.
    """
    if path is None:
        return name
    with contextlib.suppress(UserError):
        if find_recipe(name).resolve() == Path(path) or not is_file(Path(path)):
            return name
    return shown_path(Path(path))


def tensorboard(folder: Path) -> str:
    """Spell the command that shows the curves of the trainings below a folder."""
    return quoted(tool("tensorboard"), "--logdir", folder)


def places_of(summary: Summary, directory: Path) -> dict[str, Any]:
    """Return where a search lives, for `command`: its results, data set and storage."""
    saved, configurations = _definition(directory), [t.configuration for t in summary.trials]
    base, home = saved.get("base") or next(iter(configurations), {}), saved.get("storage")
    return {
        "results": directory.parent,
        "data": summary.data,
        "data_set": base.get("data", {}).get("name"),
        "storage": str(home).rpartition("/")[0] if home else None,
    }


def _definition(directory: Path) -> dict[str, Any]:
    """Return the content of search.json; nothing where it cannot be read, which whoever needs it reports."""
    try:
        content = json.loads((directory / DEFINITION).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def set_words(changed: Mapping[str, Any]) -> list[str]:
    """Return the --set flags that change these configuration keys."""
    return [word for key, value in changed.items() for word in ("--set", f"{key}={_written(value)}")]


def _changed(saved: Mapping[str, Any], given: str) -> dict[str, Any]:
    """Return the keys that --set has changed in the base of a search; none where its file is not there any more."""
    try:
        now = to_flat(load_space(read_recipe(given)).base)
        then = to_flat(from_dict(saved["base"], source=DEFINITION))
    except (UserError, KeyError, TypeError):
        return {}
    return {key: value for key, value in then.items() if value != now[key]}


def _written(value: Any) -> str:
    """Return a value as --set reads it."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)

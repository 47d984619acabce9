"""The configuration and the data set that the flags of a job ask for."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from nmt.commands import command
from nmt.config import SETTINGS, Config, find_setting, load_config, with_overrides
from nmt.errors import UserError
from nmt.io.address import is_address


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration keys and values of --set. Raises UserError for an unknown key."""
    return dict(parse_assignment(text) for text in args.set)


def decode_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keys and values of --set for a job that may only change decode.*.

    Raises:
        UserError: another key, or a wrong value.
    """
    changed = overrides(args)
    for key in changed:
        if not key.startswith("decode."):
            free = ", ".join(k for k in SETTINGS if k.startswith("decode."))
            raise UserError(f"--set {key}: the checkpoint fixes it; only these can be set here: {free}")
    with_overrides(Config(), changed, source="--set")
    return changed


def recipe(args: argparse.Namespace, *, own: bool = False) -> Config:
    """Return the configuration of a job by the name of a recipe or a JSON file, with --set applied.

    The recipe of own data without a file gets the image size of the data set, where it is prepared already.

    Args:
        own: accept a name without a recipe as a data set of the user's own, even if it is not prepared yet.
    """
    from nmt.recipes import recipe as base_of

    name = args.name
    if name.endswith(".json"):
        return with_overrides(load_config(Path(name)), overrides(args), source="--set")
    config = base_of(name, own=own or _is_there(args.data or f"data/{name}"))
    config = with_overrides(config, overrides(args), source="--set")
    if has_default_recipe(args):
        from nmt.data.store.own_data import fitted

        config = fitted(config, data_of(args, config), chosen=overrides(args))
    return config


def has_default_recipe(args: argparse.Namespace) -> bool:
    """True if NAME is a data set of the user's own without a file in search_spaces/."""
    from nmt.recipes import has_file

    return not args.name.endswith(".json") and not has_file(args.name)


def recipe_line(config: Config) -> str:
    """Return the line that names the recipe of own data."""
    from nmt.recipes import OWN_RECIPE

    backbone = config.model.backbone
    how = f"on stored features of {backbone}" if config.data.mode == "features" else f"end to end with {backbone}"
    return f"recipe: {OWN_RECIPE} (a small head {how})"


def change_line(config: Config, data: str) -> str:
    """Return the line with the ways to change the recipe of own data."""
    init = command("--init", config.data.name, data=data, data_set=config.data.name)
    return f"change it with --set KEY=VALUE, or in the file that this writes: {init}"


def _is_there(data: str) -> bool:
    """True if the folder of the data set exists. An address is not checked: that takes seconds."""
    return is_address(data) or os.path.isdir(data)


def data_of(args: argparse.Namespace, config: Config) -> str:
    """Return the data set of a job, a folder or an address: --data, or data/NAME of the configuration."""
    return args.data or f"data/{config.data.name}"


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `a.b=value` of --set; the value is JSON where it reads as JSON, else a string. Raises UserError."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: expected KEY=VALUE, for instance optim.lr=1e-3")
    key = key.strip()
    find_setting(key, source=f"--set {text}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value

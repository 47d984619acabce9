"""The files of a model hub's repository that holds a matcher, as `nmt.inference.export.hub` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nmt.errors import UserError, one_line

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""names of the files, as model hubs expect them; this config.json is another than a training's"""
MODEL_TYPE, VERSION = "nmt", 1


def read_repository(path: Path) -> dict[str, Any]:
    """Read a repository as the content of a checkpoint.

    Args:
        path: its model.safetensors.

    Raises:
        UserError: unreadable, or no config.json of ours beside it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    content = repository_config(path.with_name(CONFIG))
    if content is None:
        raise UserError(f"{path}: no {CONFIG} of an exported matcher beside it; keep a repository's files together")
    if content.get("version") != VERSION:
        raise UserError(f"{path.with_name(CONFIG)}: version {content.get('version')}; this program reads {VERSION}")
    try:
        return content | {"model": load_file(path)}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: unreadable ({one_line(error)}); fetch it again") from error


def repository_config(config: Path) -> dict[str, Any] | None:
    """Return the content of a config.json of ours; None if it is missing or another, such as a training's."""
    try:
        content = json.loads(config.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("model_type") == MODEL_TYPE else None

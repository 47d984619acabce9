"""Read the search space of an existing search from its folder."""

from __future__ import annotations

import json
from pathlib import Path

from nmt.config import Config, DecodeConfig, from_dict, to_flat
from nmt.errors import UserError
from tune.results.layout import DEFINITION, SPACE, TRIALS
from tune.spaces.read import load_space
from tune.spaces.space import Space


def space_of(directory: Path) -> Space:
    """Return the space of the search in `directory` with the base it ran with, --set included.

    Raises:
        UserError: no search is there, or its files cannot be read.
    """
    path = directory / DEFINITION
    try:
        base = from_dict(json.loads(path.read_text())["base"], source=str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the definition of a search ({error})") from error
    return load_space(directory / SPACE, to_flat(base))


def trial_decode_grid(config_file: Path, config: Config) -> tuple[DecodeConfig, ...]:
    """Return the decodings that a trial tried, given its config.json; empty for any other file."""
    folder = config_file.resolve().parent
    definition = folder.parent.parent / SPACE
    if folder.parent.name != TRIALS or not definition.is_file():
        return ()
    return load_space(definition, to_flat(config)).decode_grid()

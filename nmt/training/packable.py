"""Which configurations can train packed together (nmt.training.packed). Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nmt.config import Config, to_flat
from nmt.errors import UserError

OWN = ("optim.", "loss.", "decode.")
"""branches in which members of a pack may differ, SHARED excepted"""
SHARED = ("loss.matching", "loss.extra")

NEEDED = {
    "data.mode": "features",
    "model.spline_backend": "matmul",
    "model.normalized": True,
    "loss.extra": "",
    "train.compile": False,
}
"""what the packed form of the model is written for"""


def is_shared(key: str, config: Config) -> bool:
    """Whether all members of a pack need the same value at `key`."""
    trained_through = key == "decode.sinkhorn_iterations" and config.loss.matching != "infonce"
    return not key.startswith(OWN) or key in SHARED or trained_through


def shape(config: Config) -> tuple[Any, ...]:
    """What configurations must have in common to be packed, to group and sort by."""
    return tuple(str(value) for key, value in to_flat(config).items() if is_shared(key, config))


def check_packable(configs: Sequence[Config]) -> None:
    """Raises UserError naming a key in which configurations that cannot be packed differ, or that is not for packs."""
    first = configs[0]
    shared = {key: value for key, value in to_flat(first).items() if is_shared(key, first)}
    for config in configs:
        flat = to_flat(config)
        for key, value in shared.items():
            if flat[key] != value:
                raise UserError(
                    f"packed trials share {key}, but got {value!r} and {flat[key]!r}; "
                    f"they may differ in optim.*, loss.* (not {' and '.join(SHARED)}) and decode.*"
                )
    flat = to_flat(first)
    for key, value in NEEDED.items():
        if flat[key] != value:
            raise UserError(f"packed trials need {key} = {value}, but it is {flat[key]!r}")

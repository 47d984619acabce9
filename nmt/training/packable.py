"""Test of which configurations can train packed together (nmt.training.packed). Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nmt.config import Config, to_flat
from nmt.errors import UserError

OWN = ("optim.", "loss.", "decode.")
"""branches in which members of a pack may differ, SHARED excepted"""
SHARED = ("loss.matching", "loss.extra", "loss.unmatched")

NEEDED = {
    "data.mode": "features",
    "model.spline_backend": "matmul",
    "model.normalized": True,
    "loss.extra": "",
    "train.compile": False,
}
"""values that the packed form of the model requires"""


def is_shared(key: str, config: Config) -> bool:
    """Return True when all members of a pack need the same value at `key`.

    Sinkhorn iterations are shared where the matching loss trains through them: the members run the same loop. The
    milestones are where they decide when keypoints are lost: the members see the same pairs.
    """
    trained_through = key == "decode.sinkhorn_iterations" and config.loss.matching != "infonce"
    loses_from_milestone = config.outliers_from is not None and config.data.outliers_from < 0
    begins = loses_from_milestone and key in ("optim.milestones", "optim.schedule")
    return not key.startswith(OWN) or key in SHARED or trained_through or begins


def shape(config: Config) -> tuple[Any, ...]:
    """Return a key to group and sort by: configurations with equal keys can be packed together."""
    return tuple(str(value) for key, value in to_flat(config).items() if is_shared(key, config))


def check_packable(configs: Sequence[Config]) -> None:
    """Check that configurations can be packed together.

    Raises:
        UserError: names the key in which they differ, or whose value packs do not support.
    """
    first = configs[0]
    shared = {key: value for key, value in to_flat(first).items() if is_shared(key, first)}
    for config in configs:
        flat = to_flat(config)
        for key, value in shared.items():
            if flat[key] != value:
                raise UserError(
                    f"packed trials share {key}, but got {value!r} and {flat[key]!r}; "
                    f"they may differ in optim.*, loss.* (not {', '.join(SHARED)}) and decode.*"
                )
    flat = to_flat(first)
    for key, value in NEEDED.items():
        if flat[key] != value:
            raise UserError(f"packed trials need {key} = {value!r}, but it is {flat[key]!r}")

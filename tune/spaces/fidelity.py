"""Two fidelities of one training: the head on stored features (cheap), and end to end on images (what counts).

A search with `fidelity = ["features", "images"]` spends its budget on the first and trains its best trials on the
second. Both parts are ordinary searches (tune/spaces/stages.py), run by tune/driver/two_stage.py. Training on features
never reads some keys; `without_effect` names them. tests/bench/fidelity.py measures how alike the two order the rest.
Imports neither Ray nor torch.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmt.config import Config, flatten
from nmt.errors import UserError
from tune.spaces.parameter import NOT_SEARCHABLE

if typing.TYPE_CHECKING:
    pass


LOW, HIGH = FIDELITIES = "features", "images"

ON_IMAGES = {
    "optim.backbone_lr_scale": "the backbone is frozen there",
    "optim.layer_decay": "the backbone is frozen there",
    "model.drop_path": "the backbone is frozen there",
    **{
        f"data.{name}": "the images were seen once, unchanged"
        for name in ("erasing", "cutmix", "mixup", "rotation", "mirror", "scale")
    },
}
"""keys that training on features does not read -> the reason"""

STORED = ("model.backbone", "model.weights", "data.views", *(key for key in ON_IMAGES if key.startswith("data.")))
"""keys that decide which stored features a training reads"""


def without_effect(config: Config, key: str) -> str | None:
    """Explain why a training of this configuration does not read `key`; None if it does."""
    if key == "data.mix_partner" and config.data.mode == LOW:
        return "stored views are mixed with objects"
    if config.data.mode == HIGH:
        return "images are drawn anew for each pair" if key == "data.views" else None
    if key.startswith("data.") and config.data.views > 1:
        return None  # the stored views were augmented
    return ON_IMAGES.get(key)


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """A configuration that no sampler draws: it comes from another search."""

    origin: str
    """the search and the trial it comes from: features/007"""
    params: dict[str, Any]
    """the searched values"""


def read_fidelity(value: Any, tables: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Check `fidelity` of the [search] table, and that [features] fits it.

    Returns:
        FIDELITIES, or () for a search in one mode.

    Raises:
        UserError: another value, or a [features] table that does not fit.
    """
    if value and (not isinstance(value, list) or tuple(value) != FIDELITIES):
        raise UserError(
            f"{source}: [search] fidelity must be {json.dumps(FIDELITIES)} or left out, but got {json.dumps(value)}"
        )
    if "features" in tables and not value:
        raise UserError(
            f"{source}: [features] sets what differs on features, so it needs fidelity = {json.dumps(FIDELITIES)}"
        )
    allowed = ("train.epochs",)
    for key in flatten(tables.get("features", {}), source=f"{source}: [features]"):
        if key in NOT_SEARCHABLE and key not in allowed:
            raise UserError(f"{source}: [features] {key} must be the same at both fidelities; set it in [base]")
    return FIDELITIES if value else ()

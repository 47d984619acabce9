"""Find and load the checkpoint of a trained matcher, and the data set that it is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nmt import checkpoint
from nmt.confidence import IN_CHECKPOINT, Calibration
from nmt.config import Config, from_dict
from nmt.data.store.features import FeatureTable, features_pattern
from nmt.data.store.given_pairs import EVALUATION_ONLY
from nmt.data.store.node_copy import local_copy
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.inference.repository import read_repository
from nmt.model.matcher import Head, Matcher
from nmt.model.undrawn import Undrawn

KEYPOINT_NAMES = "keypoint_names"
"""key of a checkpoint that older ones lack"""


@dataclass(frozen=True)
class Trained:
    """A trained matcher, and what its checkpoint knows beside the weights."""

    matcher: Matcher
    """in evaluation mode, on the CPU; without backbone where it was trained on stored features"""
    config: Config
    categories: list[str]
    """that it was trained on; empty where the checkpoint does not know them"""
    keypoint_names: dict[str, list[str]]
    """category -> names of its keypoints; empty where the checkpoint does not know them"""
    calibration: Calibration | None
    """of its confidences; None for a checkpoint of an earlier version, of a training that is not complete, or of one
    without val"""
    metrics: dict[str, Any]
    """of the epoch that its weights come from; empty where the checkpoint does not know them"""
    data_set: str | None
    """identity of the data set that it was trained on"""


def load_model(path: Path) -> tuple[Matcher, Config, list[str]]:
    """Load the model of a checkpoint: its matcher, its configuration and its categories; see `load_trained`."""
    trained = load_trained(path)
    return trained.matcher, trained.config, trained.categories


def load_trained(path: Path) -> Trained:
    """Load a trained matcher, in evaluation mode on the CPU.

    Args:
        path: best.pt or checkpoint.pt, or model.safetensors of a repository that `--export --hub` wrote.

    Raises:
        UserError: missing or damaged, not a checkpoint, weights that do not fit its configuration, or a frozen backbone
            whose weights cannot be found.
    """
    content = read_repository(path) if path.suffix == ".safetensors" else checkpoint.load(path)
    weights, config = content.get("model"), content.get("config")
    if not isinstance(weights, dict) or not isinstance(config, dict) or "categories" not in content:
        raise UserError(f"{path}: holds no trained matcher; give the best.pt of a training")
    calibration = content.get(IN_CHECKPOINT)
    known = from_dict(config, source=str(path))
    # What it is used on may have more keypoints than what it was trained on, and needs no batches of one shape.
    known = replace(known, data=replace(known.data, pad_keypoints=0))
    return Trained(
        matcher=_matcher(known, weights, path).eval(),
        config=known,
        categories=list(content["categories"]),
        keypoint_names=dict(content.get(KEYPOINT_NAMES) or {}),
        calibration=None if calibration is None else Calibration.from_dict(calibration, source=str(path)),
        metrics=dict(content.get("metrics") or {}),
        data_set=content.get("data_set"),
    )


def _matcher(config: Config, weights: dict[str, Tensor], path: Path) -> Matcher:
    """Build the matcher around its weights. Raises UserError where they do not fit the configuration."""
    from nmt.model.efficientnet_lite import backbone_for_use
    from nmt.model.spline import usable

    model = replace(config.model, spline_backend=usable(config.model.spline_backend))
    own = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    given = {name.removeprefix("backbone."): value for name, value in weights.items() if name.startswith("backbone.")}
    backbone = None
    if given or config.data.mode == "images":
        # A frozen backbone is not in a checkpoint: its weights come from where the training took them.
        frozen = not given and config.optim.backbone_lr_scale == 0
        backbone = backbone_for_use(config.model, config.data.image_size, weights=frozen)
    try:
        if backbone is None:
            widths = own["node_linear.weight"].shape[1], own["global_linear.weight"].shape[1]
        else:
            widths = sum(backbone.channels), backbone.global_channels
        with Undrawn():
            head = Head(model, channels=widths[0], global_channels=widths[1])
        head.load_state_dict(own)
        if backbone is not None and not frozen:
            backbone.load_state_dict(given)
    except (KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: its weights do not fit the model of its configuration ({_first_line(error)}); restore the file, "
            "or train again"
        ) from error
    return Matcher(head, backbone)


def _first_line(error: Exception) -> str:
    """Return the first reason that torch lists: "Missing key(s) in state_dict", a size mismatch."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__)[:200]


def open_plain(
    data: str | Path | None, config: Config, *, checkpoint: Path, categories: Sequence[str]
) -> tuple[ObjectStore, FeatureTable | None]:
    """Open the data set that a trained matcher is evaluated on, and in features mode any table of its backbone.

    Args:
        data: a folder or an address; None: data/NAME of the configuration.
        checkpoint: the file that the matcher came from, for error messages.
        categories: those it was trained on; empty if not known.

    Raises:
        UserError: no data set or no features there, or other categories; a data set for evaluation alone may have any.
    """
    in_features = config.data.mode == "features"
    wanted = [features_pattern(config.model, config.data.image_size)] if in_features else []
    folder = local_copy(data or Path("data") / config.data.name, features=wanted)
    store = ObjectStore.open(folder)
    alone = store.info.options.get(EVALUATION_ONLY)
    if categories and not alone and store.info.categories != list(categories):
        raise UserError(f"{folder}: its categories are not those {checkpoint} was trained on ({', '.join(categories)})")
    return store, FeatureTable.open(folder, config.model, config.data.image_size) if in_features else None

"""Find and load the checkpoint of a trained matcher, and the data set that it is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nmt import checkpoint
from nmt.confidence import IN_CHECKPOINT, Calibration
from nmt.config import Config, from_dict
from nmt.data.store.features import FeatureTable, features_pattern
from nmt.data.store.node_copy import local_copy
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.model.matcher import Matcher


@dataclass(frozen=True)
class Trained:
    """Content of a checkpoint."""

    matcher: Matcher
    """in evaluation mode on the CPU; without backbone if it was trained on stored features"""
    config: Config
    categories: list[str]
    """those it was trained on; empty if not known"""
    calibration: Calibration | None
    """of its confidences; None for a checkpoint of an earlier version, of a training that is not complete, or of one
    without val"""


def load_model(path: Path) -> tuple[Matcher, Config, list[str]]:
    """Load the matcher of a checkpoint, its configuration and its categories. See `load_trained`."""
    found = load_trained(path)
    return found.matcher, found.config, found.categories


def load_trained(path: Path) -> Trained:
    """Load a checkpoint.

    Args:
        path: best.pt or checkpoint.pt.

    Raises:
        UserError: missing or damaged, not a checkpoint, or a frozen backbone whose weights cannot be found.
    """
    from nmt.model.build import build_matcher

    content = checkpoint.load(path)
    config = from_dict(content["config"], source=str(path))
    weights = content["model"]
    if config.data.mode == "features":
        features = _Widths(weights["head.node_linear.weight"].shape[1], weights["head.global_linear.weight"].shape[1])
    else:
        features = None
    # A frozen backbone is not in the checkpoint: its weights come from where the training took them.
    frozen = config.data.mode == "images" and config.optim.backbone_lr_scale == 0
    matcher = build_matcher(config.model, image_size=config.data.image_size, features=features, pretrained=frozen)
    matcher.load_state_dict(weights, strict=not frozen)
    kept = content.get(IN_CHECKPOINT)
    calibration = None if kept is None else Calibration.from_dict(kept, source=str(path))
    return Trained(matcher.eval(), config, content["categories"], calibration)


@dataclass(frozen=True)
class _Widths:
    """Widths of the features that a head was trained on."""

    channels: int
    global_channels: int


def open_plain(
    data: str | Path | None, config: Config, *, checkpoint: Path, categories: Sequence[str]
) -> tuple[ObjectStore, FeatureTable | None]:
    """Open the data set that a trained matcher is evaluated on, and in features mode any table of its backbone.

    Args:
        data: a folder or an address; None: data/NAME of the configuration.
        checkpoint: the file that the matcher came from, for error messages.
        categories: those it was trained on; empty if not known.

    Raises:
        UserError: no data set or no features there, or other categories.
    """
    in_features = config.data.mode == "features"
    wanted = [features_pattern(config.model, config.data.image_size)] if in_features else []
    folder = local_copy(data or Path("data") / config.data.name, features=wanted)
    store = ObjectStore.open(folder)
    if categories and store.info.categories != list(categories):
        raise UserError(f"{folder}: its categories are not those {checkpoint} was trained on ({', '.join(categories)})")
    return store, FeatureTable.open(folder, config.model, config.data.image_size) if in_features else None

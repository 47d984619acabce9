"""Preparing a data set whole: its objects, and the features that its recipe trains on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.config import Config, ModelConfig
from nmt.data.prepare.objects import PreparedData, prepare
from nmt.data.prepare.shards import ShardMaker, make_shards
from nmt.data.store.features import ViewOptions
from nmt.data.store.objects import IMAGE_CODINGS

if TYPE_CHECKING:
    from nmt.data.prepare.features import FeatureRows


@dataclass(frozen=True)
class PreparedDataSet:
    """A data set that is ready to train on. Printed: a table of its objects, and its tables of features."""

    objects: PreparedData
    features: tuple[Path, ...]
    """one table per backbone"""

    def __str__(self) -> str:
        return "\n".join([str(self.objects), *(f"features: {path}" for path in self.features)])


def feature_models(config: Config, backbone: str | None) -> list[ModelConfig]:
    """List the backbones whose features a data set gets: the recipe's in features mode, and `backbone`."""
    models = [config.model] if config.data.mode == "features" else []
    if backbone and backbone != config.model.backbone:
        models.append(dataclasses.replace(config.model, backbone=backbone))
    elif backbone and not models:
        models.append(config.model)
    return models


def prepare_data_set(
    config: Config,
    *,
    raw: Path | None,
    out: str | Path,
    backbone: str | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    difficulty: Mapping[str, Sequence[int]] | None = None,
    image_coding: str = IMAGE_CODINGS[0],
    clip_to_box: bool = False,
    progress: bool = False,
    shards: ShardMaker = make_shards,
    rows: FeatureRows | None = None,
) -> PreparedDataSet:
    """Make the Arrow data set of a configuration; what is there already is kept.

    The features are made where the configuration trains on them (`data.mode = features`).

    Args:
        raw, out, skip_bad, seed, difficulty, image_coding, clip_to_box: as for `nmt.data.prepare.objects.prepare`.
        backbone: also make a table of this backbone's features.
        shards: makes the shards of objects; by default this machine.
        rows: makes the rows of features; None: this machine.

    Raises:
        UserError: as `prepare` and `add_features` do.
    """
    objects = prepare(
        config,
        raw=raw,
        out=out,
        skip_bad=skip_bad,
        seed=seed,
        difficulty=difficulty,
        image_coding=image_coding,
        clip_to_box=clip_to_box,
        progress=progress,
        make=shards,
    )
    models = feature_models(config, backbone)
    if not models:
        return PreparedDataSet(objects, ())
    from nmt.data.prepare.features import add_features  # loads torch, which objects alone do not need

    views = ViewOptions.of(config.data)
    tables = [add_features(out, model, views=views, make=rows, progress=progress) for model in models]
    return PreparedDataSet(objects, tuple(tables))

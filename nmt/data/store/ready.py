"""Bring a data set to this node and check that it fits what is to be trained, before anything starts.

A command calls `ready_data` once; on a cluster every other node does the same for itself (tune/driver/preflight.py). A
job then calls `local_data`, which only makes sure that the copy of its node is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.commands import command
from nmt.config import Config, DataConfig
from nmt.data.store.present import PHOTOGRAPHS_FILE, prepare_command
from nmt.errors import TemporaryError, UserError
from nmt.io.address import absolute

if TYPE_CHECKING:
    from nmt.data.store.features import FeatureTable
    from nmt.data.store.objects import ObjectStore


@dataclass(frozen=True)
class ReadyData:
    """A data set that was checked on this node."""

    given: str
    """the folder or the address as the user wrote it"""
    source: str
    """the same as an absolute path or an address, for other processes and nodes"""
    folder: Path
    """its folder on this node"""
    identity: str
    """12 hex digits that differ between any two different data sets"""
    has_test: bool
    """False: it has no test split"""
    weights: Mapping[str, str] = field(default_factory=dict)
    """backbone and `model.weights` -> 12 hex digits of the content; only what is trained on images and read from files
    """
    val_pairs: int = 0
    """validation pairs of a search; 0 where they were not counted"""


def ready_data(data: str | Path, configs: Sequence[Config]) -> ReadyData:
    """Bring the data set here and check it against every configuration that will be trained on it.

    Args:
        data: a folder or an address.

    Raises:
        UserError: no data set there, no table of the features of a backbone, no whole photographs to mix in, another
            image size, no pairs to train on or to validate with, one category where pairs of two are asked for, or no
            weights of a backbone.
    """
    from nmt.data.store.features import open_features
    from nmt.data.store.node_copy import local_copy
    from nmt.data.store.objects import ObjectStore
    from nmt.data.store.partners import has_test
    from nmt.data.store.photographs import open_photographs

    distinct = list({(c.data, c.model.backbone, c.model.weights): c for c in configs}.values())
    folder = local_copy(data, features=[pattern for config in distinct for pattern in needed_files(config)])
    store = ObjectStore.open(folder)
    for config in distinct:
        features = open_features(folder, config) if config.data.mode == "features" else None
        check_fit(store, config.data, features)
        check_cross(store, config.data)
        open_photographs(store, config.data)
    check_pairs(store)
    weights = _ready_weights(distinct, data)
    return ReadyData(str(data), absolute(data), folder, store.info.identity, has_test(store), weights)


def local_data(data: str | Path | ReadyData, config: Config) -> Path:
    """Bring to this node what one training reads of a data set that was checked before; returns its folder.

    Args:
        data: a folder or an address, or what `ready_data` returned: then it has to be that data set still.
        config: configuration of the training.

    Raises:
        TemporaryError: it was removed, replaced or damaged since, or is out of reach. It may come back.
    """
    from nmt.data.store.features import open_features
    from nmt.data.store.node_copy import local_copy
    from nmt.data.store.objects import ObjectStore
    from nmt.data.store.photographs import open_photographs

    source = data.source if isinstance(data, ReadyData) else data
    try:
        _ready_weights([config], source, offer=False)
        folder = local_copy(source, features=needed_files(config))
        store = ObjectStore.open(folder)
        if config.data.mode == "features":
            open_features(folder, config)
        open_photographs(store, config.data)
    except UserError as error:
        raise TemporaryError(str(error)) from error
    if isinstance(data, ReadyData) and (found := store.info.identity) != data.identity:
        raise TemporaryError(
            f"{source}: was replaced by the data set {found} while {data.identity} is trained on; put that one back"
        )
    return folder


def _ready_weights(configs: Sequence[Config], data: str | Path, *, offer: bool = True) -> dict[str, str]:
    """Bring the weights of every backbone that is trained on images to this node; return their hashes."""
    from nmt.model.backbone import ready_weights

    models = {(c.model.backbone, c.model.weights): c.model for c in configs if c.data.mode == "images"}
    found = {name: ready_weights(model, data, offer=offer) for name, model in models.items()}
    return {f"{backbone} ({weights})": content for (backbone, weights), content in found.items() if content}


def needed_files(config: Config) -> list[str]:
    """Name the files that a training of this configuration reads beside the objects."""
    from nmt.data.store.features import ViewOptions, features_pattern
    from nmt.data.store.photographs import mixes_photographs

    if config.data.mode != "features":
        return [PHOTOGRAPHS_FILE] if mixes_photographs(config.data) else []
    return [features_pattern(config.model, config.data.image_size, ViewOptions.of(config.data))]


def check_pairs(store: ObjectStore) -> None:
    """Check that a training can draw pairs from train and val. Raises UserError.

    Without this, a data set without a usable val would end its training after the first epoch.
    """
    from nmt.data.store.given_pairs import EVALUATION_ONLY
    from nmt.data.store.partners import pair_faults

    if store.info.options.get(EVALUATION_ONLY):
        evaluate = command("--evaluate", "NAME", data=store.directory)
        raise UserError(
            f"{store.directory}: is for evaluation alone, none of its pairs is in train; evaluate a model that was "
            f"trained on another data set: {evaluate}"
        )
    faults = list(pair_faults(store))
    if faults:
        left_out = ", ".join(f"{num} {reason}" for reason, num in store.info.left_out.items())
        raise UserError(
            f"{store.directory}: {faults[0]}, so it cannot be trained on; "
            + (f"left out when it was made: {left_out}; " if left_out else "")
            + f"mend the raw data set, then make it anew with: {prepare_command(store.info.name, data=store.directory)}"
        )


def check_fit(store: ObjectStore, config: DataConfig, features: FeatureTable | None) -> FeatureTable | None:
    """Check that an open data set fits the `data` branch of a configuration.

    Returns:
        The features to train on; None in images mode.

    Raises:
        UserError: another image size, or fewer padded keypoints than an object has.
    """
    if store.info.image_size != config.image_size:
        raise UserError(
            f"{store.directory}: its images are {store.info.image_size} pixels wide, but data.image_size is "
            f"{config.image_size}; set it to {store.info.image_size}, or make the data set anew with: "
            + prepare_command(store.info.name, data=store.directory, settings={"data.image_size": config.image_size})
        )
    most = store.info.most_keypoints
    if 0 < config.pad_keypoints <= most:
        raise UserError(
            f"{store.directory}: objects have up to {most} keypoints, so data.pad_keypoints must be at least "
            f"{most + 1} (one is always padding) or 0, but is {config.pad_keypoints}"
        )
    if config.mode == "images":
        return None
    if features is None:
        raise ValueError("data.mode = features needs a FeatureTable")
    return features


def check_cross(store: ObjectStore, config: DataConfig) -> None:
    """Raise UserError if training pairs are to join two categories and there is one alone."""
    from nmt.data.store.given_pairs import open_pairs

    if not config.cross:
        return
    table = open_pairs(store)
    if table is None:
        paired = sum(len(rows) > 0 for rows in store.rows("train"))
    else:
        paired = len(set(store.category[table.row0[table.of("train")]].tolist()))
    if paired < 2:
        raise UserError(
            f"{store.directory}: has pairs of one category in train, and data.cross joins objects of two; set it to 0"
        )

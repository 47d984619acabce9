"""Tables of frozen backbone features at the keypoints: data/NAME/features/BACKBONE-SIZE-WEIGHTS.arrow.

The rows are in the order of objects.arrow. Columns:

    nodes      list<float16>  N * C: both channel-normalised feature maps, sampled at the N keypoints
    global     list<float32>  G: the global feature of the image

The metadata (JSON under the key `nmt`) names the backbone, its weights and the data set. A table of several views has
the views of an object one after the other; the first is the object as stored. For each view it also has:

    points     list<float32>  x0 y0 x1 y1 ..., where the keypoints are in the view, pixels
    visible    list<uint8>    1 for each keypoint that can be seen in the view
    mirrored   uint8          1 if the view is mirrored
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nmt.config import Config, DataConfig, ModelConfig
from nmt.data.store.arrow import ArrowTable
from nmt.data.store.objects import ObjectStore
from nmt.data.store.present import prepare_command
from nmt.errors import UserError

SAMPLING = 2
"""number of the way in which maps are read at keypoints; 1 divided by the image size whatever the maps cover"""

AUGMENTATIONS = ("erasing", "cutmix", "mixup", "rotation", "mirror", "scale")
"""configuration keys of `data` that a view depends on"""


@dataclass(frozen=True)
class ViewOptions:
    """The augmented views of each object that a table holds."""

    num: int = 1
    """views of each object; 1: the object as stored, alone"""
    augmentation: tuple[float, ...] = ()
    """values of AUGMENTATIONS; empty for the plain view alone"""

    @classmethod
    def of(cls, config: DataConfig) -> ViewOptions:
        if config.views == 1:
            return cls()
        return cls(config.views, tuple(float(getattr(config, name)) for name in AUGMENTATIONS))

    @property
    def suffix(self) -> str:
        """Part of the file name that separates tables of different views."""
        if self.num == 1:
            return ""
        return f"-{self.num}views-{hashlib.sha256(json.dumps(self.augmentation).encode()).hexdigest()[:6]}"

    def to_dict(self) -> dict[str, Any]:
        return {"views": self.num, "augmentation": dict(zip(AUGMENTATIONS, self.augmentation, strict=False))}


_SCHEMA = pa.schema(
    [
        pa.field("nodes", pa.list_(pa.float16()), nullable=False),
        pa.field("global", pa.list_(pa.float32()), nullable=False),
    ]
)
_VIEWS_SCHEMA = pa.schema(
    [
        *_SCHEMA,
        pa.field("points", pa.list_(pa.float32()), nullable=False),
        pa.field("visible", pa.list_(pa.uint8()), nullable=False),
        pa.field("mirrored", pa.uint8(), nullable=False),
    ]
)
PLAIN = ViewOptions()


def features_path(directory: Path, model: ModelConfig, image_size: int, views: ViewOptions = PLAIN) -> Path:
    """Path of the table of a backbone with its weights, at one image size and with these views."""
    from nmt.model.weights import weights_fingerprint

    name = model.backbone.replace("/", "_").replace(":", "_")
    return directory / "features" / f"{name}-{image_size}-{weights_fingerprint(model)}{views.suffix}.arrow"


def features_pattern(model: ModelConfig, image_size: int, views: ViewOptions | None = None) -> str:
    """Pattern of the tables that `FeatureTable.open` may choose from, relative to the data set's folder.

    Args:
        views: the views it must have; None for any.
    """
    path = features_path(Path(), model, image_size, views or PLAIN)
    return str(path) if views else str(path.with_name(f"{path.stem}*.arrow"))


class FeatureTable:
    """Backbone features of every object of a data set, open for reading.

    Rows are numbered as in `ObjectStore`. Arrays are read-only views of the mapped file.
    """

    def __init__(self, path: Path, *, remedy: str) -> None:
        self.path, self._remedy = path, remedy
        table = ArrowTable(path, remedy=remedy)
        self.info = table.metadata
        self.channels: int = table.metadata["channels"]
        """C, of both feature maps together"""
        self.global_channels: int = table.metadata["global_channels"]
        """G, of the global feature"""
        self.views: int = table.metadata.get("views", 1)
        """views of each object; the first is the object as stored"""
        self._nodes, self._global = table.ragged("nodes"), table.ragged("global")
        if self.views > 1:
            self._points, self._visible = table.ragged("points"), table.ragged("visible")
            self._mirrored = table.fixed("mirrored")

    @classmethod
    def open(
        cls, directory: Path, model: ModelConfig, image_size: int, views: ViewOptions | None = None
    ) -> FeatureTable:
        """Open the table of a backbone.

        Args:
            directory: folder of the data set.
            views: the views it must have; None for a reader of plain features, which any table holds.

        Raises:
            UserError: no such table, or one of another version of the data set or of this code; names the command
                that makes it.
        """
        info = ObjectStore.open(directory).info
        remedy = prepare_command(info.name, data=directory, features=model.backbone)
        path = features_path(directory, model, image_size, views or PLAIN)
        if views is None and not path.is_file():
            path = next(iter(sorted(path.parent.glob(f"{path.stem}-*.arrow"))), path)
        if views is not None and views.num > 1:
            remedy += f" --set data.views={views.num}, and the same augmentation"
        table = cls(path, remedy=remedy)
        if table.info.get("sampling") != SAMPLING:
            raise UserError(f"{table.path}: an earlier version read it off place; make it anew with: {remedy}")
        if table.info["data_set"] != info.identity:
            raise UserError(f"{table.path}: made from another version of {directory}; make it anew with: {remedy}")
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_table, (self.path, self._remedy)

    def nodes(self, row: int, view: int = 0) -> np.ndarray:
        """Return the features at the keypoints, (N, C) float16, in the order of `ObjectStore.keypoints`."""
        return self._nodes[row * self.views + view].reshape(-1, self.channels)

    def global_feature(self, row: int, view: int = 0) -> np.ndarray:
        """Return the global feature, (G,) float32."""
        return self._global[row * self.views + view]

    def points(self, row: int, view: int) -> np.ndarray:
        """Return where the keypoints are in a view, (N, 2) float32 pixels. For tables of several views."""
        return self._points[row * self.views + view].reshape(-1, 2)

    def visible(self, row: int, view: int) -> np.ndarray:
        """Return which keypoints can be seen in a view, (N,) bool. For tables of several views."""
        return self._visible[row * self.views + view].view(bool)

    def mirrored(self, row: int, view: int) -> bool:
        """True if the view is mirrored. For tables of several views."""
        return bool(self._mirrored[row * self.views + view])


def _open_table(path: Path, remedy: str) -> FeatureTable:
    return FeatureTable(path, remedy=remedy)


def open_features(directory: Path, config: Config) -> FeatureTable:
    """Open the table that a training with this configuration reads. Raises as `FeatureTable.open`."""
    return FeatureTable.open(directory, config.model, config.data.image_size, ViewOptions.of(config.data))

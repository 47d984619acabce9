"""TODO docstring of nmt.data.store.features."""

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
from nmt.data.store.node_copy import local_directory
from nmt.data.store.objects import ObjectStore
from nmt.data.store.present import prepare_command
from nmt.errors import UserError

AUGMENTATIONS = ("erasing", "cutmix", "mixup", "rotation", "mirror", "scale")
"""the configuration keys of data.* that a view depends on"""


@dataclass(frozen=True)
class ViewOptions:
    """Which views a table of features holds."""

    num: int = 1
    """views an object; 1: the plain one alone"""
    augmentation: tuple[float, ...] = ()
    """values of AUGMENTATIONS; none for the plain view alone"""

    @classmethod
    def of(cls, config: DataConfig) -> ViewOptions:
        if config.views == 1:
            return cls()
        return cls(config.views, tuple(float(getattr(config, name)) for name in AUGMENTATIONS))

    @property
    def suffix(self) -> str:
        """What tells the file from those of other views."""
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
    """Where the table for this backbone, with these weights and views, at this size lies."""
    from nmt.model.weights import weights_fingerprint

    name = model.backbone.replace("/", "_").replace(":", "_")
    return directory / "features" / f"{name}-{image_size}-{weights_fingerprint(model)}{views.suffix}.arrow"


class FeatureTable:
    """Backbone features of every object of a data set, open for reading; rows as in the ObjectStore."""

    def __init__(self, path: Path, *, remedy: str) -> None:
        self.path, self._remedy = path, remedy
        table = ArrowTable(path, remedy=remedy)
        self.info = table.metadata
        self.channels: int = table.metadata["channels"]
        """C, both maps together"""
        self.global_channels: int = table.metadata["global_channels"]
        """G"""
        self.views: int = table.metadata.get("views", 1)
        """of each object, one after the other; the first is the plain one"""
        self._nodes, self._global = table.ragged("nodes"), table.ragged("global")
        if self.views > 1:
            self._points, self._visible = table.ragged("points"), table.ragged("visible")
            self._mirrored = table.fixed("mirrored")

    @classmethod
    def open(
        cls, directory: Path, model: ModelConfig, image_size: int, views: ViewOptions | None = None
    ) -> FeatureTable:
        """The table for this backbone.

        Args:
            views: those it must have; None: any, for who reads the plain ones.

        Raises:
            UserError: there is none, or it was made from another state of the data set; with the command that makes it.
        """
        info = ObjectStore.open(directory).info
        remedy = prepare_command(info.name, features=model.backbone)
        name = features_path(Path(), model, image_size, views or PLAIN).name
        wanted = f"features/{name}" if views else f"features/{Path(name).stem}*.arrow"
        path = local_directory(directory, features=wanted) / "features" / name
        if views is None and not path.is_file():
            path = next(iter(sorted(path.parent.glob(f"{path.stem}-*.arrow"))), path)
        if views is not None and views.num > 1:
            remedy += f" --set data.views={views.num}, and the same augmentation"
        table = cls(path, remedy=remedy)
        if table.info["data_set"] != info.identity:
            raise UserError(f"{table.path}: made from another version of {directory}; make it anew with: {remedy}")
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_table, (self.path, self._remedy)

    def nodes(self, row: int, view: int = 0) -> np.ndarray:
        """(N, C) float16, keypoints as in ObjectStore.keypoints."""
        return self._nodes[row * self.views + view].reshape(-1, self.channels)

    def global_feature(self, row: int, view: int = 0) -> np.ndarray:
        """(G,) float32."""
        return self._global[row * self.views + view]

    def points(self, row: int, view: int) -> np.ndarray:
        """(N, 2) float32: where the keypoints are in a view; of a table with several."""
        return self._points[row * self.views + view].reshape(-1, 2)

    def visible(self, row: int, view: int) -> np.ndarray:
        """(N,) bool: the keypoints that can be seen in a view; of a table with several."""
        return self._visible[row * self.views + view].view(bool)

    def mirrored(self, row: int, view: int) -> bool:
        """Whether a view is mirrored; of a table with several."""
        return bool(self._mirrored[row * self.views + view])


def _open_table(path: Path, remedy: str) -> FeatureTable:
    return FeatureTable(path, remedy=remedy)


def open_features(directory: Path, config: Config) -> FeatureTable:
    """The table a training reads."""
    return FeatureTable.open(directory, config.model, config.data.image_size, ViewOptions.of(config.data))

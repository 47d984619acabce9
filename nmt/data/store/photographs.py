"""Whole photographs for MixUp and CutMix: data/NAME/photographs.arrow, beside objects that are cut out of them.

An Arrow IPC file with one row per photograph of train and val, in the order of their names; test is left out:

    split   int8     0 train, 1 val
    image   binary   JPEG (quality 95, 4:4:4) of the photograph, resized to the data set's square

The metadata (JSON under the key `nmt`) names the data set that the photographs belong to. Its identity covers their
files, so it covers this one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from nmt.config import DataConfig
from nmt.data.store.arrow import ArrowTable
from nmt.data.store.objects import SPLITS, ObjectStore
from nmt.data.store.present import PHOTOGRAPHS_FILE, prepare_command
from nmt.errors import UserError

CROPS = "crops"
"""key of `StoreInfo.options` that is true if the objects are cut out of photographs"""
PHOTOGRAPHS_SCHEMA = pa.schema(
    [pa.field("split", pa.int8(), nullable=False), pa.field("image", pa.binary(), nullable=False)]
)


class Photographs:
    """The whole photographs of a data set, open for reading. Pickling carries only the folder.

    Raises:
        UserError: no such file, or one of another version of the data set; names the command that makes it.
    """

    def __init__(self, directory: Path) -> None:
        info = ObjectStore.open(directory).info
        path, remedy = directory / PHOTOGRAPHS_FILE, _command(directory, info.name, info.image_size)
        table = ArrowTable(path, remedy=remedy)
        if table.metadata.get("data_set") != info.identity:
            raise UserError(f"{path}: made from another version of {directory}; make it anew with: {remedy}")
        self._directory, self.split, self._image = directory, table.fixed("split"), table.ragged("image")

    def __reduce__(self) -> tuple[Any, ...]:
        return Photographs, (self._directory,)

    def __len__(self) -> int:
        return len(self.split)

    def of(self, split: str) -> np.ndarray:
        """Return the rows of a split, or of several joined by +, increasing."""
        return np.flatnonzero(np.isin(self.split, [SPLITS.index(name) for name in split.split("+")]))

    def image(self, row: int) -> np.ndarray:
        """Return a photograph, (size, size, 3) uint8."""
        return np.asarray(Image.open(io.BytesIO(self._image[row].tobytes())))


def mixes_photographs(config: DataConfig) -> bool:
    """True if a training mixes whole photographs into its images. Stored views are mixed with objects."""
    return config.mode == "images" and config.mix_partner == "photographs"


def open_photographs(store: ObjectStore, config: DataConfig) -> Photographs | None:
    """Open the photographs that a training mixes in; None where objects are, or where they are whole photographs.

    Raises:
        UserError: see `Photographs`.
    """
    cut_out = bool(store.info.options.get(CROPS))
    return Photographs(store.directory) if cut_out and mixes_photographs(config) else None


def _command(data: Path, name: str, image_size: int) -> str:
    keys = {"data.mode": "images", "data.mix_partner": "photographs", "data.image_size": image_size}
    return prepare_command(name, data=data, settings=keys)

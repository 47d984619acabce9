"""The Arrow data set `data/NAME/objects.arrow`: one row an object, memory-mapped, described by its schema metadata.

An Arrow IPC file of uncompressed record batches, so every reader on a machine shares one copy of its pages and reads
columns without copying. Columns (schema version 1):

    id         string         unique, CATEGORY/IMAGE or CATEGORY/IMAGE@VIEW
    category   int16          index into the categories
    split      int8           0 train, 1 val, 2 test
    photo      int32          rows of one photograph share it; a pair never joins two of them
    image      binary         raw uint8 (size, size, 3) or JPEG (quality 95, 4:4:4); the metadata says which
    keypoints  list<int16>    index into the category's keypoint names, increasing
    points     list<float32>  x0 y0 x1 y1 ..., pixels of the square image, as many as keypoints
    edges      list<int16>    graph of all the object's keypoints (nmt/data/graph.py): E "from", then E "to"

The metadata is the JSON of `StoreInfo` under the key `nmt`. Beside it, `index.arrow` has what a reader needs
of every row at once (`RowIndex`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION, ArrowTable
from nmt.data.store.node_copy import local_directory
from nmt.data.store.present import OBJECTS_FILE, prepare_command
from nmt.errors import UserError

INDEX_FILE = "index.arrow"
LOCK_FILE = ".lock"
"""held by whoever writes into the folder of a data set"""
SPLITS = ("train", "val", "test")
IMAGE_CODINGS = ("raw", "jpeg")
"""the first is the default"""
MIN_KEYPOINTS = 2
"""of a pair, and so of an object"""

_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("category", pa.int16(), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
        pa.field("photo", pa.int32(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("keypoints", pa.list_(pa.int16()), nullable=False),
        pa.field("points", pa.list_(pa.float32()), nullable=False),
        pa.field("edges", pa.list_(pa.int16()), nullable=False),
    ]
)
ROWS_SCHEMA = _SCHEMA.set(3, pa.field("photo", pa.string(), nullable=False))
"""of rows on their way into the file"""


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What a data set is: the schema metadata."""

    name: str
    keypoint_names: dict[str, list[str]]
    """category -> names; the order of both is the meaning of the columns `category` and `keypoints`"""
    image_size: int
    image_coding: str
    """jpeg or raw"""
    options: dict[str, Any]
    """how the raw input was read"""
    seed: int
    fingerprint: str
    """of the raw input"""
    counts: dict[str, dict[str, int]]
    """split -> category -> objects"""
    left_out: dict[str, int]
    """reason -> objects of the raw input that are not in the data set"""
    mirror: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """category -> keypoint name -> its name when the image is mirrored; names that stay are left out"""
    version: int = SCHEMA_VERSION

    @property
    def categories(self) -> list[str]:
        return list(self.keypoint_names)

    @property
    def num_objects(self) -> int:
        return sum(sum(of_split.values()) for of_split in self.counts.values())

    def counts_table(self) -> str:
        """Objects by category and split, as text."""
        width = max(len(category) for category in [*self.categories, "category"])
        rows: dict[str, list[object]] = {"category": list(SPLITS)}
        rows |= {category: [self.counts[split][category] for split in SPLITS] for category in self.categories}
        rows["all"] = [sum(self.counts[split].values()) for split in SPLITS]
        return "\n".join(f"{title:{width}}" + "".join(f"{c:>9}" for c in cells) for title, cells in rows.items())

    @property
    def identity(self) -> str:
        """12 hex digits that differ between any two different data sets; feature tables carry it."""
        return hashlib.sha256(self.to_json()).hexdigest()[:12]

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()


def stable_hash(text: str) -> int:
    """A number from a text, the same on every machine and in every run; for splits and seeds."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


@dataclass(frozen=True)
class RowIndex:
    """The columns of numbers of all rows, and the rows by split and category.

    `index.arrow` holds it in one record batch, so that a data set of any size opens at once and all processes share its
    pages; without that file, or with another data set's, it is computed from the objects.
    """

    category: np.ndarray
    split: np.ndarray
    photo: np.ndarray
    order: np.ndarray
    """int64: rows by (split, category), increasing within"""
    groups: Sequence[int]
    """where each (split, category) starts in `order`, and the number of rows"""
    starts: Sequence[int]
    """first row of each record batch of the objects, and the number of rows"""

    @classmethod
    def open(cls, directory: Path, identity: str) -> RowIndex | None:
        """The stored index of the data set `identity`, None where there is none."""
        try:
            table = ArrowTable(directory / INDEX_FILE, remedy="")
        except UserError:
            return None
        if table.metadata.get("data_set") != identity:
            return None
        category, split, photo, order = (table.fixed(name) for name in ("category", "split", "photo", "order"))
        return cls(category, split, photo, order, groups=table.metadata["groups"], starts=table.metadata["starts"])

    @classmethod
    def compute(cls, objects: ArrowTable, num_categories: int) -> RowIndex:
        """The index of the objects."""
        category, split, photo = (objects.fixed(name) for name in ("category", "split", "photo"))
        # Sixteen bits, which NumPy sorts by counting: 0.1 s for ten million rows.
        group = np.multiply(split, num_categories, dtype=np.int16) + category
        num_groups = len(SPLITS) * num_categories
        groups = [0, *np.bincount(group, minlength=num_groups).cumsum().tolist()]
        return cls(category, split, photo, group.argsort(kind="stable"), groups, objects.starts)

    def write(self, path: Path, identity: str) -> None:
        """Writes `index.arrow` for the data set `identity`."""
        info = {"version": SCHEMA_VERSION, "data_set": identity, "groups": self.groups, "starts": self.starts}
        names = ("category", "split", "photo", "order")
        batch = pa.RecordBatch.from_arrays([pa.array(getattr(self, name)) for name in names], names)
        batch = batch.replace_schema_metadata({METADATA_KEY: json.dumps(info).encode()})
        with pa.ipc.new_file(str(path), batch.schema) as file:
            file.write_batch(batch)


def write_index(objects: Path, path: Path) -> None:
    """Writes the index of a file of objects."""
    table = ArrowTable(objects, remedy="")
    info = StoreInfo(**table.metadata)
    RowIndex.compute(table, len(info.categories)).write(path, info.identity)


class ObjectStore:
    """A prepared data set, open for reading; rows are numbered from 0.

    The arrays that `keypoints`, `points`, `edges` and (raw coding) `image` return are read-only views of the mapped
    file. Pickling carries the folder alone, so worker processes map the same pages.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        table = ArrowTable(directory / OBJECTS_FILE, remedy=prepare_command(directory.name))
        self.info = StoreInfo(**table.metadata)
        index = RowIndex.open(directory, self.info.identity) or RowIndex.compute(table, len(self.info.categories))
        self._index = index
        self.category, self.split, self.photo = index.category, index.split, index.photo
        self._id, self._image, self._keypoints, self._points, self._edges = (
            table.ragged(name, index.starts) for name in ("id", "image", "keypoints", "points", "edges")
        )

    @classmethod
    def open(cls, directory: Path) -> ObjectStore:
        """Opens the data set in a folder, or at an address; raises UserError with the command that makes it."""
        return cls(local_directory(Path(directory)))

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStore, (self.directory,)

    def __len__(self) -> int:
        return len(self.category)

    def rows(self, split: str) -> list[np.ndarray]:
        """Row numbers of the split, increasing, one array a category."""
        order, groups = self._index.order, self._index.groups
        first = SPLITS.index(split) * len(self.info.keypoint_names)
        return [order[groups[g] : groups[g + 1]] for g in range(first, first + len(self.info.keypoint_names))]

    def mirror(self, category: int) -> np.ndarray | None:
        """(K,) int16: keypoint id -> id when the image is mirrored; None where all keep their names."""
        return self._mirrors[category]

    @cached_property
    def _mirrors(self) -> list[np.ndarray | None]:
        mirrors: list[np.ndarray | None] = []
        for category, names in self.info.keypoint_names.items():
            swapped = self.info.mirror.get(category)
            number = {name: k for k, name in enumerate(names)}
            mirrors.append(np.array([number[swapped.get(n, n)] for n in names], np.int16) if swapped else None)
        return mirrors

    def id(self, row: int) -> str:
        return self._id[row].tobytes().decode()

    def keypoints(self, row: int) -> np.ndarray:
        """(N,) int16 indices into the category's keypoint names, increasing."""
        return self._keypoints[row]

    def points(self, row: int) -> np.ndarray:
        """(N, 2) float32 pixels (x, y)."""
        return self._points[row].reshape(-1, 2)

    def edges(self, row: int) -> np.ndarray:
        """(2, E) int16: the graph of all the object's keypoints."""
        return self._edges[row].reshape(2, -1)

    def image(self, row: int) -> np.ndarray:
        """(size, size, 3) uint8."""
        data = self._image[row]
        if self.info.image_coding == "raw":
            return data.reshape(self.info.image_size, self.info.image_size, 3)
        return np.asarray(Image.open(io.BytesIO(data.tobytes())))

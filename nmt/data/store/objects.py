"""The Arrow data set data/NAME/objects.arrow: one row per object, memory-mapped.

An Arrow IPC file of uncompressed record batches, so that all readers on a machine share one copy of its pages and read
columns without copying. Columns (schema version 1):

    id         string         unique, CATEGORY/IMAGE or CATEGORY/IMAGE@VIEW
    category   int16          index into the categories
    split      int8           0 train, 1 val, 2 test
    photo      int32          equal for the rows of one photograph; a pair never joins two of them
    image      binary         raw uint8 (size, size, 3) or JPEG (quality 95, 4:4:4); the metadata says which
    keypoints  list<int16>    indices into the category's keypoint names, increasing
    points     list<float32>  x0 y0 x1 y1 ..., pixels of the square image, in the order of keypoints
    edges      list<int16>    graph of all the object's keypoints (nmt/data/graph.py): E "from", then E "to"
    sizes      list<float32>  width and height, pixels of the photograph: of the part that the image shows, then of the
                              object's annotated box; 0 0 = the data set has none

Data sets of earlier versions lack `sizes`. Nothing but PCK (nmt/inference/pck.py) reads it.

The schema's metadata is the JSON of `StoreInfo` under the key `nmt`. Beside the file lies index.arrow, which holds
what a reader needs of all rows at once (`RowIndex`).
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
from nmt.data.store.present import OBJECTS_FILE, prepare_command
from nmt.errors import UserError
from nmt.io.table import aligned, shortened

INDEX_FILE = "index.arrow"
LOCK_FILE = ".lock"
"""held by the process that writes into the folder of a data set"""
SPLITS = ("train", "val", "test")
IMAGE_CODINGS = ("raw", "jpeg")
"""codings of stored images; the first is the default"""
MIN_KEYPOINTS = 2
"""fewest keypoints of a pair, and so of an object"""

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
        pa.field("sizes", pa.list_(pa.float32()), nullable=False),
    ]
)
ROWS_SCHEMA = _SCHEMA.set(3, pa.field("photo", pa.string(), nullable=False))
"""schema of rows on their way into the file: the photograph is still a name"""


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """Description of a data set, kept in the metadata of its schema."""

    name: str
    keypoint_names: dict[str, list[str]]
    """category -> keypoint names; the columns `category` and `keypoints` are indices into these"""
    image_size: int
    image_coding: str
    """jpeg or raw"""
    options: dict[str, Any]
    """options that the raw data set was read with"""
    seed: int
    fingerprint: str
    """hash of the raw input"""
    counts: dict[str, dict[str, int]]
    """split -> category -> objects"""
    left_out: dict[str, int]
    """reason -> number of objects, pairs or keypoints of the raw input that were left out"""
    mirror: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """category -> keypoint name -> its name in a mirrored image; names that stay the same are not listed"""
    notes: list[str] = dataclasses.field(default_factory=list)
    """lines for the report: files that were skipped, how splits were made"""
    version: int = SCHEMA_VERSION

    @property
    def categories(self) -> list[str]:
        """Names of the categories, in the order of the column `category`."""
        return list(self.keypoint_names)

    @property
    def num_objects(self) -> int:
        """Objects in all splits."""
        return sum(sum(of_split.values()) for of_split in self.counts.values())

    @property
    def most_keypoints(self) -> int:
        """Largest number of keypoints that an object can have."""
        return max(len(names) for names in self.keypoint_names.values())

    def counts_table(self) -> str:
        """Print the number of objects by category and split as text."""
        rows = [
            [shortened(category), *(self.counts[split][category] for split in SPLITS)] for category in self.categories
        ]
        rows.append(["all", *(sum(self.counts[split].values()) for split in SPLITS)])
        return aligned([["category", *SPLITS], *(list(map(str, row)) for row in rows)], left=1)

    @property
    def identity(self) -> str:
        """12 hex digits that differ between any two different data sets. Feature tables and pairs carry it."""
        return hashlib.sha256(dataclasses.replace(self, notes=[]).to_json()).hexdigest()[:12]

    def to_json(self) -> bytes:
        """Encode the description for the schema's metadata."""
        # Without notes, the text is the same as before there were any, and so is the identity of older data sets.
        content = {key: value for key, value in dataclasses.asdict(self).items() if key != "notes" or value}
        return json.dumps(content).encode()


def stable_hash(text: str) -> int:
    """Hash a text to a number that is the same on every machine, for splits and seeds."""
    # Names of files and JSON texts may hold lone surrogates, which have no UTF-8.
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8])


@dataclass(frozen=True)
class RowIndex:
    """The numeric columns of all rows, and the rows grouped by split and category.

    index.arrow holds it in one record batch, so that a data set of any size opens at once and all processes share its
    pages. Without that file, or with one of another data set, it is computed from the objects.
    """

    category: np.ndarray
    split: np.ndarray
    photo: np.ndarray
    order: np.ndarray
    """int64: rows by (split, category), increasing within"""
    groups: Sequence[int]
    """index at which each (split, category) starts in `order`, then the number of rows"""
    starts: Sequence[int]
    """first row of each record batch of the objects, then the number of rows"""

    @classmethod
    def open(cls, directory: Path, identity: str) -> RowIndex | None:
        """Open the stored index of the data set `identity`; None if there is none."""
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
        """Compute the index of the objects."""
        category, split, photo = (objects.fixed(name) for name in ("category", "split", "photo"))
        # Sixteen bits, which NumPy sorts by counting: 0.1 s for ten million rows.
        group = np.multiply(split, num_categories, dtype=np.int16) + category
        num_groups = len(SPLITS) * num_categories
        groups = [0, *np.bincount(group, minlength=num_groups).cumsum().tolist()]
        return cls(category, split, photo, group.argsort(kind="stable"), groups, objects.starts)

    def write(self, path: Path, identity: str) -> None:
        """Write index.arrow for the data set `identity`."""
        info = {"version": SCHEMA_VERSION, "data_set": identity, "groups": self.groups, "starts": self.starts}
        names = ("category", "split", "photo", "order")
        batch = pa.RecordBatch.from_arrays([pa.array(getattr(self, name)) for name in names], names)
        batch = batch.replace_schema_metadata({METADATA_KEY: json.dumps(info).encode()})
        with pa.ipc.new_file(str(path), batch.schema) as file:
            file.write_batch(batch)


def write_index(objects: Path, path: Path) -> None:
    """Write the index of a file of objects."""
    table = ArrowTable(objects, remedy="")
    info = StoreInfo(**table.metadata)
    RowIndex.compute(table, len(info.categories)).write(path, info.identity)


class ObjectStore:
    """A prepared data set, open for reading. Rows are numbered from 0.

    The arrays that `keypoints`, `points`, `edges` and (raw coding) `image` return are read-only views of the mapped
    file. Pickling carries only the folder, so loader processes map the same pages.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        table = ArrowTable(directory / OBJECTS_FILE, remedy=prepare_command(directory.name, data=directory))
        self.info = StoreInfo(**table.metadata)
        index = RowIndex.open(directory, self.info.identity) or RowIndex.compute(table, len(self.info.categories))
        self._index = index
        self.category, self.split, self.photo = index.category, index.split, index.photo
        self._id, self._image, self._keypoints, self._points, self._edges = (
            table.ragged(name, index.starts) for name in ("id", "image", "keypoints", "points", "edges")
        )
        self._sizes = table.ragged("sizes", index.starts) if table.has("sizes") else None

    @classmethod
    def open(cls, directory: Path) -> ObjectStore:
        """Open the data set in a folder. Raises UserError with the command that makes it."""
        return cls(Path(directory))

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStore, (self.directory,)

    def __len__(self) -> int:
        return len(self.category)

    def rows(self, split: str) -> list[np.ndarray]:
        """Return the row numbers of a split, increasing, one array per category; of several, joined by +, together."""
        several = [self._rows_of(name) for name in split.split("+")]
        return (
            several[0] if len(several) == 1 else [np.sort(np.concatenate(rows)) for rows in zip(*several, strict=True)]
        )

    def _rows_of(self, split: str) -> list[np.ndarray]:
        order, groups = self._index.order, self._index.groups
        first = SPLITS.index(split) * len(self.info.keypoint_names)
        return [order[groups[g] : groups[g + 1]] for g in range(first, first + len(self.info.keypoint_names))]

    def mirror(self, category: int) -> np.ndarray | None:
        """Return keypoint id -> id in a mirrored image, (K,) int16; None if all keep their names."""
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
        """Return the unique name of an object."""
        return self._id[row].tobytes().decode()

    def keypoints(self, row: int) -> np.ndarray:
        """Return the ids of an object's keypoints, (N,) int16: indices into the category's names, increasing."""
        return self._keypoints[row]

    def points(self, row: int) -> np.ndarray:
        """Return where an object's keypoints are, (N, 2) float32 pixels (x, y)."""
        return self._points[row].reshape(-1, 2)

    def edges(self, row: int) -> np.ndarray:
        """Return the graph of all the object's keypoints, (2, E) int16."""
        return self._edges[row].reshape(2, -1)

    @property
    def has_sizes(self) -> bool:
        """True if `sizes` can be read: the data set was not made by an earlier version."""
        return self._sizes is not None

    def sizes(self, row: int) -> np.ndarray:
        """Return two widths and heights, (2, 2) float32 pixels of the photograph.

        Returns:
            First of the part that the image shows, then of the object's annotated box; zeros = it has none.
        """
        assert self._sizes is not None, f"{self.directory}: without sizes"
        return self._sizes[row].reshape(2, 2)

    def image(self, row: int) -> np.ndarray:
        """Return the image, (size, size, 3) uint8."""
        data = self._image[row]
        if self.info.image_coding == "raw":
            return data.reshape(self.info.image_size, self.info.image_size, 3)
        return np.asarray(Image.open(io.BytesIO(data.tobytes())))

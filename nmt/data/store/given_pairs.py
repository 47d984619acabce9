"""Given pairs: `data/NAME/pairs.arrow` beside the objects of data sets that say which two images to match (SPair-71k).

An Arrow IPC file, one row a pair: split int8 (as in the objects), row0 and row1 int64 (rows of objects.arrow),
keypoints list<int16> (what is matched, increasing indices into the category's keypoint names), and int8 gradings, named
as in `nmt.data.readers.base.DIFFICULTIES`. The metadata, JSON under the key `nmt`, names the data set it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION, ArrowTable
from nmt.data.store.objects import SPLITS, ObjectStore, StoreInfo
from nmt.data.store.present import prepare_command
from nmt.errors import UserError

DIFFICULTIES = ("mirror", "viewpoint_variation", "scale_variation", "truncation", "occlusion")
"""what a given pair is graded by, 0 = none"""


@dataclass(frozen=True)
class GivenPair:
    """Two entries a data set wants matched, by id."""

    split: str
    id0: str
    id1: str
    keypoints: tuple[str, ...]
    """what is to be matched, by name; fewer than the two have in common, perhaps"""
    difficulty: tuple[int, ...]
    """as DIFFICULTIES"""


PAIRS_FILE = "pairs.arrow"
GIVEN_PAIRS = "given_pairs"
"""the option of the data set (StoreInfo.options) that says it has them"""

_SCHEMA = pa.schema(
    [
        pa.field("split", pa.int8(), nullable=False),
        pa.field("row0", pa.int64(), nullable=False),
        pa.field("row1", pa.int64(), nullable=False),
        pa.field("keypoints", pa.list_(pa.int16()), nullable=False),
        *(pa.field(name, pa.int8(), nullable=False) for name in DIFFICULTIES),
    ]
)


class PairTable:
    """The given pairs of a data set, open for reading."""

    def __init__(self, store: ObjectStore) -> None:
        path, remedy = store.directory / PAIRS_FILE, prepare_command(store.info.name)
        table = ArrowTable(path, remedy=remedy)
        if table.metadata.get("data_set") != store.info.identity:
            raise UserError(f"{path}: made with another version of the objects beside it; make it anew with: {remedy}")
        self.split, self.row0, self.row1 = (table.fixed(name) for name in ("split", "row0", "row1"))
        self._keypoints = table.ragged("keypoints")

    def of(self, split: str) -> np.ndarray:
        """The numbers of the split's pairs, in the data set's order."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def keypoints(self, pair: int) -> np.ndarray:
        """(N,) int16 indices into the category's keypoint names, increasing; a view of the mapped file."""
        return self._keypoints[pair]


def open_pairs(store: ObjectStore) -> PairTable | None:
    """The given pairs of a data set, None when it has none.

    Raises:
        UserError: it should have them, but they are not there or are another version's.
    """
    return PairTable(store) if store.info.options.get(GIVEN_PAIRS) else None


def write_pairs(path: Path, pairs: Sequence[GivenPair], rows: Mapping[str, int], info: StoreInfo) -> None:
    """Writes the pairs of the data set `info`.

    Args:
        rows: object id -> row, of every object the pairs name.
    """
    numbers = {c: {name: k for k, name in enumerate(names)} for c, names in info.keypoint_names.items()}
    columns = [
        [SPLITS.index(pair.split) for pair in pairs],
        [rows[pair.id0] for pair in pairs],
        [rows[pair.id1] for pair in pairs],
        [sorted(numbers[pair.id0.partition("/")[0]][name] for name in pair.keypoints) for pair in pairs],
        *([pair.difficulty[k] for pair in pairs] for k in range(len(DIFFICULTIES))),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    metadata = json.dumps({"version": SCHEMA_VERSION, "data_set": info.identity}).encode()
    schema = _SCHEMA.with_metadata({METADATA_KEY: metadata})
    with pa.ipc.new_file(str(path), schema) as file:
        file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))

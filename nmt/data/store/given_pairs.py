"""Given pairs: data/NAME/pairs.arrow, for data sets that list which two images to match (SPair-71k).

An Arrow IPC file with one row per pair:

    split       int8         as in objects.arrow
    row0, row1  int64        rows of objects.arrow
    keypoints   list<int16>  what is to be matched: indices into the category's keypoint names, increasing
    mirror ...  int8         how hard the pair is, one column for each of DIFFICULTIES; -1 where it is not given

The metadata (JSON under the key `nmt`) names the data set that the pairs belong to.
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
"""grades of a given pair; 0 = none"""
NOT_GIVEN = -1
"""stands for a grade that the data set does not give"""


@dataclass(frozen=True)
class GivenPair:
    """Two objects that a data set lists as a pair, by id."""

    split: str
    id0: str
    id1: str
    keypoints: tuple[str, ...]
    """names of the keypoints to match; may be fewer than the two objects share"""
    difficulty: tuple[int, ...]
    """one grade for each of DIFFICULTIES, or NOT_GIVEN"""


PAIRS_FILE = "pairs.arrow"
GIVEN_PAIRS = "given_pairs"
"""key of `StoreInfo.options` that is true if the data set lists pairs"""
EVALUATION_ONLY = "evaluation_only"
"""key of `StoreInfo.options` that is true if the data set has given pairs to evaluate on, and none to train on"""

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
        path, remedy = store.directory / PAIRS_FILE, prepare_command(store.info.name, data=store.directory)
        table = ArrowTable(path, remedy=remedy)
        if table.metadata.get("data_set") != store.info.identity:
            raise UserError(f"{path}: made with another version of the objects beside it; make it anew with: {remedy}")
        self.split, self.row0, self.row1 = (table.fixed(name) for name in ("split", "row0", "row1"))
        self._keypoints = table.ragged("keypoints")

    def of(self, split: str) -> np.ndarray:
        """Return the numbers of the pairs of a split, or of several joined by +, in the order of the data set."""
        return np.flatnonzero(np.isin(self.split, [SPLITS.index(name) for name in split.split("+")]))

    def keypoints(self, pair: int) -> np.ndarray:
        """Return the ids to match, (N,) int16, increasing; a view of the mapped file."""
        return self._keypoints[pair]


def open_pairs(store: ObjectStore) -> PairTable | None:
    """Open the given pairs of a data set; None if it lists none.

    Raises:
        UserError: the data set should have pairs, but the file is missing or belongs to another version of it.
    """
    return PairTable(store) if store.info.options.get(GIVEN_PAIRS) else None


def write_pairs(path: Path, pairs: Sequence[GivenPair], rows: Mapping[str, int], info: StoreInfo) -> None:
    """Write the given pairs of the data set `info`.

    Args:
        path: the file to write.
        rows: object id -> row, for every object that a pair names.
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

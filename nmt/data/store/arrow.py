"""Read memory-mapped Arrow IPC files, column by column and without copies."""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nmt.data.store.present import require_table
from nmt.errors import UserError

SCHEMA_VERSION = 1
METADATA_KEY = b"nmt"


class ArrowTable:
    """Record batches of a memory-mapped Arrow IPC file, and their metadata.

    Args:
        path: the file.
        remedy: the command that makes the file, for error messages.

    Raises:
        UserError: no such file, not one of this project, another schema version, or no rows.
    """

    def __init__(self, path: Path, *, remedy: str) -> None:
        require_table(path, remedy=remedy)
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
            self.metadata: dict[str, Any] = json.loads((self._reader.schema.metadata or {})[METADATA_KEY])
        except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
            raise UserError(f"{path}: not an Arrow file of this project; make it anew with: {remedy}") from error
        if self.metadata.get("version") != SCHEMA_VERSION:
            raise UserError(
                f"{path}: schema version {self.metadata.get('version')}, this program reads {SCHEMA_VERSION}; "
                f"make it anew with: {remedy}"
            )
        if not self.num_batches:
            raise UserError(f"{path}: holds no rows; make it anew with: {remedy}")

    def has(self, name: str) -> bool:
        """True if the file has a column of this name."""
        return name in self._reader.schema.names

    @property
    def num_batches(self) -> int:
        return self._reader.num_record_batches

    @cached_property
    def starts(self) -> list[int]:
        """Row number at which each record batch starts, then the number of rows. Opens every batch."""
        return [0, *itertools.accumulate(self.batch(k).num_rows for k in range(self.num_batches))]

    def batch(self, k: int) -> pa.RecordBatch:
        """Return record batch `k`. Nothing of it is read yet."""
        return self._reader.get_batch(k)

    def fixed(self, name: str) -> np.ndarray:
        """Return a column of numbers for all rows: a view if there is one record batch, else a copy."""
        columns = [_numbers(self.batch(k).column(name)) for k in range(self.num_batches)]
        return columns[0] if len(columns) == 1 else np.concatenate(columns)

    def ragged(self, name: str, starts: Sequence[int] | None = None) -> RaggedColumn:
        """Return a column of lists, strings or bytes, to be read row by row.

        Args:
            starts: the value of `self.starts`, if the caller knows it already.
        """
        return RaggedColumn(self, name, self.starts if starts is None else starts)


def _numbers(array: pa.Array) -> np.ndarray:
    """View an array of numbers without nulls. `to_numpy` would import pandas if installed, which takes a second."""
    return np.frombuffer(array.buffers()[1] or b"", array.type.to_pandas_dtype())[array.offset :][: len(array)]


class RaggedColumn:
    """Column of lists: `column[row]` is a view of the row's values in the mapped file; nothing is copied."""

    def __init__(self, table: ArrowTable, name: str, starts: Sequence[int]) -> None:
        self._table, self._name, self._starts = table, name, starts
        self._views: list[tuple[np.ndarray, np.ndarray] | None] = [None] * (len(starts) - 1)

    def __getitem__(self, row: int) -> np.ndarray:
        chunk = bisect_right(self._starts, row) - 1
        offsets, values = self._views[chunk] or self._view(chunk)
        local = row - self._starts[chunk]
        return values[offsets[local] : offsets[local + 1]]

    def _view(self, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        array = self._table.batch(chunk).column(self._name)
        offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
        if pa.types.is_list(array.type):
            values = _numbers(array.values)
        else:
            values = np.frombuffer(array.buffers()[2] or b"", np.uint8)
        self._views[chunk] = offsets, values
        return offsets, values

"""Columns of a memory-mapped Arrow file against what pyarrow itself reads, and files that are none of ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION, ArrowTable
from nmt.errors import UserError

SCHEMA = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("numbers", pa.list_(pa.float32()), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("bytes", pa.binary(), nullable=False),
    ]
)
rows = st.tuples(
    st.integers(-(2**31), 2**31 - 1), st.lists(st.floats(width=32, allow_nan=False), max_size=4), st.text(max_size=3),
    st.binary(max_size=5),
)  # fmt: skip


def write(path: Path, batches: list[list[tuple]], metadata: object = None) -> Path:
    content = {"version": SCHEMA_VERSION, "kind": "test"} if metadata is None else metadata
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(content).encode()})
    with pa.ipc.new_file(str(path), schema) as file:
        for batch in batches:
            columns = [list(column) for column in zip(*batch, strict=True)] or [[]] * len(SCHEMA)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
            file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(rows, max_size=4), min_size=1, max_size=4))
def test_every_row_of_every_batch_is_what_was_written(tmp_path: Path, batches: list[list[tuple]]) -> None:
    table = ArrowTable(write(tmp_path / "a.arrow", batches), remedy="")
    expected = [row for batch in batches for row in batch]
    assert table.num_batches == len(batches) and table.metadata["kind"] == "test"
    assert table.starts == [0, *np.cumsum([len(batch) for batch in batches]).tolist()]
    assert table.fixed("number").tolist() == [row[0] for row in expected]
    columns = [table.ragged(name) for name in ("numbers", "text", "bytes")]
    for k, (_, numbers, text, data) in enumerate(expected):
        found = [column[k] for column in columns]
        assert found[0].dtype == np.float32 and found[0].tolist() == numbers
        assert found[1].tobytes().decode() == text and found[2].tobytes() == data


def test_rows_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    table = ArrowTable(write(tmp_path / "a.arrow", [[(1, [2.0, 3.0], "", b"x")] * 3]), remedy="")
    for view in (table.fixed("number"), table.ragged("numbers")[1], table.ragged("bytes")[2]):
        assert not view.flags.owndata and not view.flags.writeable


def test_starts_known_from_elsewhere_are_taken_as_they_are(tmp_path: Path) -> None:
    table = ArrowTable(write(tmp_path / "a.arrow", [[(k, [], str(k), b"")] for k in range(3)]), remedy="")
    column = table.ragged("text", [0, 1, 2, 3])
    assert [column[k].tobytes() for k in (2, 0, 1)] == [b"2", b"0", b"1"]
    assert "starts" not in vars(table)  # no batch was looked at to count its rows


def test_a_table_without_rows_names_the_command_that_makes_the_file_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", [])
    with pytest.raises(UserError, match=f"{path}: holds no rows; make it anew with: make it"):
        ArrowTable(path, remedy="make it")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"version": 99}, "schema version 99, this program reads 1; make it anew with: make it"),
        ({}, "schema version None, this program reads 1; make it anew with: make it"),
    ],
)
def test_another_version_names_the_command_that_makes_the_file_anew(
    tmp_path: Path, metadata: object, message: str
) -> None:
    path = write(tmp_path / "a.arrow", [], metadata)
    with pytest.raises(UserError, match=f"{path}: {message}"):
        ArrowTable(path, remedy="make it")


def test_an_absent_or_foreign_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.arrow: not there; make it with: make it"):
        ArrowTable(tmp_path / "absent.arrow", remedy="make it")
    foreign = tmp_path / "foreign.arrow"
    with pa.ipc.new_file(str(foreign), SCHEMA):  # Arrow, without our metadata
        pass
    with pytest.raises(UserError, match="foreign.arrow: not an Arrow file of this project; make it anew"):
        ArrowTable(foreign, remedy="make it")

"""Shards: whole or absent, and the same from one process or several."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.prepare.shards import SHARD_TASKS, RowMaker, in_shards, make_shards, read_shard, shard_path, write_shard
from nmt.data.readers.registry import Loaded
from nmt.data.store.writer import RawObject, encode_objects
from nmt.errors import FailedError, UserError

NAMES = {"c": ["a", "b"]}
SIZE = 4


def load(task: int) -> Loaded:
    """Two objects of an even task, a reason of an odd one, an error of 99."""
    if task == 99:
        raise UserError("task 99 is damaged")
    if task % 2:
        return [], Counter({"odd": 1})
    image = np.full((SIZE, SIZE, 3), task, np.uint8)
    points = {"a": (0.0, 1.0), "b": (float(task % SIZE), 3.0)}
    return [RawObject(f"c/{task}@{k}", "c", "train", f"photo{task}", image, points) for k in range(2)], Counter()


MAKER = RowMaker(load, NAMES, SIZE, "raw")


@given(st.integers(0, 4 * SHARD_TASKS + 1))
def test_shards_hold_all_tasks_in_order(num: int) -> None:
    shards = in_shards(range(num))
    assert [task for shard in sorted(shards) for task in shards[shard]] == list(range(num))
    assert all(1 <= len(tasks) <= SHARD_TASKS for tasks in shards.values())
    assert len(shards) == -(-num // SHARD_TASKS)


def test_a_shard_comes_back_with_its_rows_and_what_was_left_out(tmp_path: Path) -> None:
    write_shard(tmp_path, 7, MAKER(range(5)))
    rows, left_out = read_shard(tmp_path, 7)
    objects = [raw for task in (0, 2, 4) for raw in load(task)[0]]
    assert rows.equals(encode_objects(objects, NAMES, image_size=SIZE, image_coding="raw"))
    assert left_out == {"odd": 2} and [p.name for p in tmp_path.iterdir()] == ["000007.arrow"]


def test_several_processes_make_what_one_makes(tmp_path: Path) -> None:
    shards = {k: range(10 * k, 10 * k + 10) for k in range(6)}
    assert sorted(make_shards(MAKER, shards, tmp_path)) == list(shards)
    for shard, tasks in shards.items():
        rows, left_out = read_shard(tmp_path, shard)
        assert rows.equals(MAKER(tasks).replace_schema_metadata(None)) and left_out == {"odd": 5}


@pytest.mark.parametrize("num", [1, 5])
def test_a_task_that_fails_ends_the_work_with_its_error_and_no_half_shard(tmp_path: Path, num: int) -> None:
    shards = {k: [2 * k] for k in range(num - 1)} | {num - 1: [2, 99]}
    with pytest.raises(UserError) as error:
        list(make_shards(MAKER, shards, tmp_path))
    assert str(error.value) == "task 99 is damaged"
    assert not shard_path(tmp_path, num - 1).exists()
    assert all(path.suffix == ".arrow" and not path.name.startswith(".") for path in tmp_path.iterdir())


def die(task: int) -> Loaded:
    os._exit(9)


def test_a_killed_process_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="a process that reads images was killed, .*; the same command continues"):
        list(make_shards(RowMaker(die, NAMES, SIZE, "raw"), {k: [k] for k in range(3)}, tmp_path))

"""A raw data set in shards: the rows of a few dozen tasks each, made in any order by any process.

What an interrupted `prepare` has made lies in a hidden folder beside the data set, `.partial-KEY`, and the same command
goes on from there. A shard is an Arrow IPC file of `ROWS_SCHEMA` (nmt/data/store/objects.py); its metadata, JSON
under the key
`nmt`, counts what was left out.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nmt.data.readers.registry import Loaded
from nmt.data.store.arrow import METADATA_KEY
from nmt.data.store.writer import RawObject, encode_objects
from nmt.io.files import atomic_output

SHARD_TASKS = 32
_FEW_SHARDS = 2
"""are made before other processes have started"""


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of a shard; travels to other processes."""

    load: Callable[[Any], Loaded]
    keypoint_names: Mapping[str, list[str]]
    image_size: int
    image_coding: str

    def __call__(self, tasks: Sequence[Any]) -> pa.RecordBatch:
        objects, left_out = list[RawObject](), Counter[str]()
        for task in tasks:
            loaded, reasons = self.load(task)
            objects += loaded
            left_out.update(reasons)
        rows = encode_objects(objects, self.keypoint_names, image_size=self.image_size, image_coding=self.image_coding)
        return rows.replace_schema_metadata({METADATA_KEY: json.dumps(left_out)})


Shards = Mapping[int, Sequence[Any]]
"""number -> tasks"""
ShardMaker = Callable[[RowMaker, Shards, Path], Iterator[int]]
"""makes shards in a folder; yields the number of each when its file is there"""


def in_shards(tasks: Sequence[Any]) -> Shards:
    """The tasks of a data set, SHARD_TASKS a shard, in order."""
    firsts = range(0, len(tasks), SHARD_TASKS)
    return {shard: tasks[first : first + SHARD_TASKS] for shard, first in enumerate(firsts)}


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:06}.arrow"


def write_shard(folder: Path, shard: int, rows: pa.RecordBatch) -> None:
    with atomic_output(shard_path(folder, shard)) as partial, pa.ipc.new_file(str(partial), rows.schema) as file:
        file.write_batch(rows)


def read_shard(folder: Path, shard: int) -> tuple[pa.RecordBatch, Counter[str]]:
    """Its rows, in the mapped file, and what was left out."""
    reader = pa.ipc.open_file(pa.memory_map(str(shard_path(folder, shard))))
    left_out = Counter[str](json.loads(reader.schema.metadata[METADATA_KEY]))
    return reader.get_batch(0).replace_schema_metadata(None), left_out


def make_shards(make_rows: RowMaker, shards: Shards, folder: Path) -> Iterator[int]:
    """The `ShardMaker` of one machine: on every core, where there is enough to do."""
    if len(shards) <= _FEW_SHARDS:
        yield from (_make_shard(make_rows, shard, tasks, folder) for shard, tasks in shards.items())
        return
    # Started afresh: a fork of a process that runs threads (torch, Ray) may hang.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_start_process) as pool:
        try:
            made = [pool.submit(_make_shard, make_rows, shard, tasks, folder) for shard, tasks in shards.items()]
            yield from (future.result() for future in as_completed(made))
        finally:
            pool.shutdown(cancel_futures=True)


def _make_shard(make_rows: RowMaker, shard: int, tasks: Sequence[Any], folder: Path) -> int:
    write_shard(folder, shard, make_rows(tasks))
    return shard


def _start_process() -> None:
    """Ctrl-C is the parent's; and when it is killed, a pool's processes would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

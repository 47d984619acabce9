"""Shards of a data set in the making: the rows of 32 tasks each, made in any order by any process.

Shards lie in a hidden folder of the data set, `.partial-KEY`, from which an interrupted `prepare` resumes. A shard is
an Arrow IPC file of `ROWS_SCHEMA` (nmt/data/store/objects.py). Its metadata, JSON under the key `nmt`, counts what was
left out.
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
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nmt.data.readers.registry import Loaded
from nmt.data.store.arrow import METADATA_KEY
from nmt.data.store.writer import RawObject, encode_objects
from nmt.errors import FailedError
from nmt.io.files import atomic_output

SHARD_TASKS = 32
"""tasks per shard: an interruption loses at most this many per process"""
_FEW_SHARDS = 2
"""number of shards up to which this process makes them itself, faster than others start"""


@dataclass(frozen=True)
class RowMaker:
    """Maker of a shard's rows; it is sent to other processes."""

    load: Callable[[Any], Loaded]
    """function that does one task"""
    keypoint_names: Mapping[str, list[str]]
    """category -> names of its keypoints"""
    image_size: int
    """side of the square images, pixels"""
    image_coding: str
    """one of IMAGE_CODINGS"""

    def __call__(self, tasks: Sequence[Any]) -> pa.RecordBatch:
        objects, left_out = list[RawObject](), Counter[str]()
        for task in tasks:
            loaded, reasons = self.load(task)
            objects += loaded
            left_out.update(reasons)
        rows = encode_objects(objects, self.keypoint_names, image_size=self.image_size, image_coding=self.image_coding)
        return rows.replace_schema_metadata({METADATA_KEY: json.dumps(left_out)})


Shards = Mapping[int, Sequence[Any]]
"""number of a shard -> its tasks"""
Rows = Callable[[Sequence[Any]], pa.RecordBatch]
"""maker of the rows of a shard's tasks, sent to other processes; the metadata counts what was left out"""
ShardMaker = Callable[[Rows, Shards, Path], Iterator[int]]
"""function that makes shards in a folder and yields the number of each once its file is complete"""


def in_shards(tasks: Sequence[Any]) -> Shards:
    """Split the tasks of a data set, in order, into shards of SHARD_TASKS."""
    firsts = range(0, len(tasks), SHARD_TASKS)
    return {shard: tasks[first : first + SHARD_TASKS] for shard, first in enumerate(firsts)}


def shard_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"{shard:06}.arrow"


def write_shard(folder: Path, shard: int, rows: pa.RecordBatch) -> None:
    """Write a shard atomically: a file that exists is complete, so that `prepare` can resume."""
    with atomic_output(shard_path(folder, shard)) as partial, pa.ipc.new_file(str(partial), rows.schema) as file:
        file.write_batch(rows)


def read_shard(folder: Path, shard: int) -> tuple[pa.RecordBatch, Counter[str]]:
    """Open a shard: its rows, memory-mapped, and reason -> number of objects left out."""
    reader = pa.ipc.open_file(pa.memory_map(str(shard_path(folder, shard))))
    left_out = Counter[str](json.loads(reader.schema.metadata[METADATA_KEY]))
    return reader.get_batch(0).replace_schema_metadata(None), left_out


def make_shards(make_rows: Rows, shards: Shards, folder: Path) -> Iterator[int]:
    """Make shards on all cores of this machine (a `ShardMaker`). Raises FailedError when a process is killed."""
    if len(shards) <= _FEW_SHARDS:
        yield from (_make_shard(make_rows, shard, tasks, folder) for shard, tasks in shards.items())
        return
    # Not forked from this process: a fork of a process that runs threads (torch, Ray) can hang.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_start_process) as pool:
        try:
            made = [pool.submit(_make_shard, make_rows, shard, tasks, folder) for shard, tasks in shards.items()]
            yield from (future.result() for future in as_completed(made))
        except BrokenProcessPool as error:
            raise FailedError(
                "a process that reads images was killed, perhaps for lack of memory; the same command continues"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _make_shard(make_rows: Rows, shard: int, tasks: Sequence[Any], folder: Path) -> int:
    write_shard(folder, shard, make_rows(tasks))
    return shard


def _start_process() -> None:
    """Prepare a process of the pool: ignore Ctrl-C, which the parent handles, and end when the parent is killed.

    The pool's processes would otherwise wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

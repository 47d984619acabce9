"""Prepare a data set on a Ray cluster with Ray Data: makers for nmt.data.prepare.objects and .features.

Any node can run the tasks of a shard (read, decode, crop, resize, graph). The rows return to this process, which writes
the data set. Features are made by one actor per GPU, or per ACTOR_CPUS cores if there is no GPU. All nodes must see the
raw data set, and for features the prepared one, under the same path (NFS). The bytes are the same as without Ray.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data

from nmt.data.prepare.features import FeatureJob, FeatureMaker
from nmt.data.prepare.shards import Rows, Shards, write_shard
from nmt.errors import UserError

ACTOR_CPUS = 2
"""CPUs of an actor that makes features without a GPU"""


def ray_shards(make_rows: Rows, shards: Shards, folder: Path) -> Iterator[int]:
    """Make shards on a Ray cluster (a `ShardMaker`, see nmt.data.prepare.shards)."""
    # Ray Data's rows are Arrow, so tasks travel pickled; they are this program's own.
    items = [{"shard": shard, "tasks": pickle.dumps(tasks)} for shard, tasks in shards.items()]
    if not items:
        return

    def make(item: dict[str, Any]) -> dict[str, Any]:
        with _error_in(item):
            item["rows"] = _to_bytes(make_rows(pickle.loads(item.pop("tasks"))))
        return item

    with _results(ray.data.from_items(items, override_num_blocks=len(items)).map(make)) as results:
        for item in results:
            write_shard(folder, item["shard"], _from_bytes(_checked(item)))
            yield item["shard"]


def ray_features(job: FeatureJob, ranges: Sequence[range]) -> Iterator[pa.RecordBatch]:
    """Make feature rows on a Ray cluster (a `FeatureRows`, see nmt.data.prepare.features)."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    most = gpus or max(1, int(resources.get("CPU", 1)) // ACTOR_CPUS)
    items = [{"first": rows.start, "end": rows.stop} for rows in ranges]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _FeatureActor,  # type: ignore[arg-type]  # a class is what makes it an actor
        fn_constructor_kwargs={"job": job},
        # Actors, not tasks: building the backbone takes seconds, and each actor does it once.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, len(items))),
        num_gpus=1 if gpus else None,
        num_cpus=None if gpus else min(ACTOR_CPUS, int(resources.get("CPU", 1))),
    )
    with _results(dataset) as results:
        for item in results:
            yield _from_bytes(_checked(item))


class _FeatureActor:
    """Actor that builds the backbone once and makes ranges of rows with it."""

    def __init__(self, job: FeatureJob) -> None:
        self._job = job
        self._maker: FeatureMaker | None = None

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        with _error_in(item):
            self._maker = self._maker or FeatureMaker(self._job)
            item["rows"] = _to_bytes(self._maker(range(item["first"], item["end"])))
        return item


@contextlib.contextmanager
def _results(dataset: ray.data.Dataset) -> Iterator[Iterator[dict[str, Any]]]:
    """Iterate over the items of a dataset in order, without progress bars; its makers have ended after the block.

    Nothing is prefetched, and the iterator is closed at once. Threads that fetch ahead would keep running after an
    error or an interruption, and would end the whole process if Ray ends first.
    """
    context = dataset.context
    context.enable_progress_bars, context.execution_options.preserve_order = False, True
    batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    with contextlib.closing(cast(Generator[pa.Table, None, None], iter(batches))) as tables:
        yield (item for table in tables for item in table.to_pylist())


@contextlib.contextmanager
def _error_in(item: dict[str, Any]) -> Iterator[None]:
    """Return a user's mistake as a result. As an exception, Ray would retry it and wrap it in one of its own."""
    item |= {"rows": b"", "error": ""}
    try:
        yield
    except UserError as error:
        item["error"] = str(error)
        item.pop("tasks", None)


def _checked(item: Mapping[str, Any]) -> bytes:
    """Return the rows of a result. Raises the UserError that it carries."""
    if item["error"]:
        raise UserError(item["error"])
    return bytes(item["rows"])


def _to_bytes(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    return sink.getvalue().to_pybytes()


def _from_bytes(content: bytes) -> pa.RecordBatch:
    return pa.ipc.open_stream(content).read_next_batch()

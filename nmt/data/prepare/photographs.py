"""Maker of photographs.arrow: the whole photographs of train and val, for MixUp and CutMix.

Made beside a data set whose objects are cut out of them, in shards as the objects are (nmt/data/prepare/shards.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from nmt.data.prepare.shards import ShardMaker, in_shards, make_shards, read_shard, shard_path
from nmt.data.readers.registry import Photograph
from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION
from nmt.data.store.manifest import write_manifest
from nmt.data.store.objects import LOCK_FILE, SPLITS, StoreInfo
from nmt.data.store.photographs import PHOTOGRAPHS_SCHEMA, Photographs
from nmt.data.store.present import PHOTOGRAPHS_FILE
from nmt.data.store.writer import encode_jpeg
from nmt.errors import UserError
from nmt.io.files import atomic_output, file_lock
from nmt.io.images import open_image


@dataclass(frozen=True)
class PhotographMaker:
    """Maker of the rows of a shard; it is sent to other processes."""

    image_size: int
    """side of the square images, pixels"""
    skip_bad: bool
    """leave out photographs that cannot be read"""

    def __call__(self, tasks: Sequence[Photograph]) -> pa.RecordBatch:
        rows = [{"split": SPLITS.index(t.split), "image": image} for t in tasks if (image := self._encoded(t))]
        batch = pa.RecordBatch.from_pylist(rows, schema=PHOTOGRAPHS_SCHEMA)
        return batch.replace_schema_metadata({METADATA_KEY: json.dumps({})})

    def _encoded(self, photograph: Photograph) -> bytes:
        """Read a photograph and resize it to the square, as published; empty for one that is left out."""
        try:
            image = open_image(photograph.image, size=photograph.size)
        except UserError:
            if self.skip_bad:
                return b""
            raise
        square = image.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC)
        return encode_jpeg(np.asarray(square))


def add_photographs(
    photographs: Sequence[Photograph],
    folder: Path,
    info: StoreInfo,
    *,
    skip_bad: bool,
    progress: bool = False,
    make: ShardMaker = make_shards,
) -> int:
    """Make the photographs of the data set `info` in `folder`, unless they are up to date or there are none.

    Returns:
        How many there are.

    Raises:
        UserError: a photograph that cannot be read.
    """
    if not photographs:
        return 0
    num = _current(folder)
    if num is None:
        with file_lock(folder / LOCK_FILE):
            num = _current(folder)  # another process may have made them while this one waited for the lock
            if num is None:
                _write(photographs, folder, info, skip_bad=skip_bad, progress=progress, make=make)
    return len(Photographs(folder)) if num is None else num


def _write(
    photographs: Sequence[Photograph],
    folder: Path,
    info: StoreInfo,
    *,
    skip_bad: bool,
    progress: bool,
    make: ShardMaker,
) -> None:
    """Make the missing shards and join them. A UserError removes the shards, an interruption keeps them."""
    partial = folder / f".partial-photographs-{info.identity}"
    for other in folder.glob(".partial-photographs-*"):  # left by an interrupted call with other input
        if other != partial:
            shutil.rmtree(other)
    try:
        _make_missing(photographs, partial, info, skip_bad=skip_bad, progress=progress, make=make)
        _join(partial, len(in_shards(photographs)), folder / PHOTOGRAPHS_FILE, info)
    except UserError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(partial)
    write_manifest(folder)


def _current(folder: Path) -> int | None:
    """Return the number of photographs, if they are those of the data set in the folder."""
    try:
        return len(Photographs(folder))
    except UserError:
        return None


def _make_missing(
    photographs: Sequence[Photograph],
    folder: Path,
    info: StoreInfo,
    *,
    skip_bad: bool,
    progress: bool,
    make: ShardMaker,
) -> None:
    """Make the shards that are not in `folder` yet."""
    from tqdm import tqdm

    shards: dict[int, Sequence[Any]] = dict(in_shards(photographs))
    missing = {shard: tasks for shard, tasks in shards.items() if not shard_path(folder, shard).is_file()}
    done = len(photographs) - sum(map(len, missing.values()))
    maker = PhotographMaker(info.image_size, skip_bad)
    with tqdm(total=len(photographs), initial=done, desc="photographs", unit="image", disable=not progress) as bar:
        for shard in make(maker, missing, folder):
            bar.update(len(shards[shard]))


def _join(folder: Path, num_shards: int, path: Path, info: StoreInfo) -> None:
    """Copy the rows of the shards to one file, which appears when it is complete."""
    metadata = json.dumps({"version": SCHEMA_VERSION, "data_set": info.identity}).encode()
    schema = PHOTOGRAPHS_SCHEMA.with_metadata({METADATA_KEY: metadata})
    with atomic_output(path) as partial, pa.ipc.new_file(str(partial), schema) as file:
        for shard in range(num_shards):
            rows, _ = read_shard(folder, shard)
            if rows.num_rows:
                file.write_batch(rows.replace_schema_metadata(schema.metadata))

"""Preparing a data set: from the raw files to the Arrow data set (nmt/data/store/objects.py)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import Config
from nmt.data.prepare.join import join_shards
from nmt.data.prepare.photographs import add_photographs
from nmt.data.prepare.shards import RowMaker, ShardMaker, Shards, in_shards, make_shards, shard_path
from nmt.data.readers.registry import RawDataSet
from nmt.data.readers.sources import find_source
from nmt.data.store.given_pairs import open_pairs
from nmt.data.store.node_copy import folder_to_write
from nmt.data.store.objects import IMAGE_CODINGS, LOCK_FILE, ROWS_SCHEMA, SPLITS, ObjectStore, StoreInfo
from nmt.data.store.photographs import mixes_photographs
from nmt.errors import UserError
from nmt.io.files import file_lock, output_folder
from nmt.io.table import wrapped

_READER_VERSION = 3
"""increase it when a reader's output changes for the same files, so that data sets are made anew"""


@dataclass(frozen=True)
class PreparedData:
    """Summary of a prepared data set; `str()` formats it as a table."""

    data: str
    """folder or address of the data set"""
    info: StoreInfo
    """its metadata"""
    seconds: float
    """duration of `prepare`"""
    made: bool
    """False: the data set existed already, made from the same raw files with the same options"""
    pairs: dict[str, int]
    """split -> number of given pairs; empty where pairs are drawn"""
    photographs: int = 0
    """whole photographs of train and val, stored to mix in; 0: none"""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return split -> category -> number of objects."""
        return self.info.counts

    @property
    def left_out(self) -> int:
        """Return the number of raw objects, given pairs and keypoints that are not in the data set."""
        return sum(self.info.left_out.values())

    def __str__(self) -> str:
        lines = [self.info.counts_table()]
        if self.pairs:
            lines.append("given pairs: " + ", ".join(f"{num} {split}" for split, num in self.pairs.items()))
        if self.photographs:
            lines.append(f"photographs: {self.photographs} whole ones of train and val, to mix in")
        if self.left_out:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.info.left_out.items())
            lines.append(wrapped(f"left out: {reasons}", indent="  "))
        lines += [wrapped(f"note: {note}", indent="  ") for note in self.info.notes]
        done = f"made in {self.seconds:.1f} s" if self.made else "already up to date"
        size = f"{self.info.image_size} x {self.info.image_size}"
        lines.append(f"{self.data}: {self.info.num_objects} images of {size}, {done}")
        return "\n".join(lines)


def prepare(
    config: Config,
    *,
    raw: Path | None,
    out: str | Path,
    skip_bad: bool = False,
    seed: int = 0,
    difficulty: Mapping[str, Sequence[int]] | None = None,
    image_coding: str = IMAGE_CODINGS[0],
    clip_to_box: bool = False,
    progress: bool = False,
    make: ShardMaker = make_shards,
) -> PreparedData:
    """Make the Arrow data set `config.data.name` at `config.data.image_size`.

    An interrupted call resumes. Of two calls on one folder, the second waits for the first and reuses its result.

    Args:
        config: name, image size, and what images are mixed with are read.
        raw: folder of the raw data set; None for `demo`, which is rendered. A name without a reader is a data set of
            the user's own (nmt/data/readers/own).
        out: folder of the Arrow data set, data/NAME, or an address (nmt/data/store/node_copy.py).
        skip_bad: leave unreadable images and annotations out and count them.
        seed: seed of rendered objects and of WILLOW's rotated views.
        difficulty: levels of given pairs to keep (nmt/data/readers/spair.py).
        image_coding: how images are stored, one of IMAGE_CODINGS.
        clip_to_box: cut COCO's objects at their box, and drop keypoints outside.
        progress: show a progress bar on standard error.
        make: function that makes the shards; the bytes of the data set do not depend on it.

    Raises:
        UserError: unknown name; raw folder missing or empty; an unreadable file; no pairs left in train or val.
            Nothing is left half-written.
    """
    # A process being started by multiprocessing imports the caller's script. If that calls prepare, the new process
    # would wait for the file lock that its parent holds, and the parent for the new process.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError("call prepare under `if __name__ == '__main__':` in a script, for it starts processes")
    started, name, size = time.perf_counter(), config.data.name, config.data.image_size
    source = find_source(
        name, raw, size=size, skip_bad=skip_bad, seed=seed, difficulty=difficulty or {}, clip_to_box=clip_to_box
    )
    wanted = {
        "name": name,
        "image_size": size,
        "image_coding": image_coding,
        "options": {"skip_bad": skip_bad, "reader": _READER_VERSION, **source.options},
        "seed": seed,
        "fingerprint": source.fingerprint(),
        "mirror": source.mirror,
    }
    with folder_to_write(out) as folder:
        info, made = _finished(folder, wanted), False
        if info is None:
            with output_folder(folder), file_lock(folder / LOCK_FILE):
                info = _finished(folder, wanted)
                made = info is None
                info = info or _write(source, folder, wanted, str(raw or name), progress=progress, make=make)
        mixed = source.photographs if mixes_photographs(config.data) else ()
        num_mixed = add_photographs(mixed, folder, info, skip_bad=skip_bad, progress=progress, make=make)
    return PreparedData(str(out), info, time.perf_counter() - started, made, _given_pairs(folder), num_mixed)


def _given_pairs(folder: Path) -> dict[str, int]:
    """Return split -> number of given pairs; empty where pairs are drawn."""
    table = open_pairs(ObjectStore.open(folder))
    return {split: len(table.of(split)) for split in SPLITS} if table else {}


def _finished(out: Path, wanted: dict[str, Any]) -> StoreInfo | None:
    """Return the metadata of the data set in `out` if it is the wanted one, else None."""
    with contextlib.suppress(UserError):
        info = ObjectStore.open(out).info
        # One of an earlier version lacks sizes. Made anew, it has the same identity, so its features stay valid.
        if all(getattr(info, key) == value for key, value in wanted.items()) and ObjectStore.open(out).has_sizes:
            open_pairs(ObjectStore.open(out))
            return info
    return None


def _write(
    source: RawDataSet, out: Path, wanted: dict[str, Any], where: str, *, progress: bool, make: ShardMaker
) -> StoreInfo:
    """Make the missing shards and join them. A UserError removes the shards, an interruption keeps them."""
    shards = in_shards(source.tasks)
    made_of = [wanted, len(source.tasks), ROWS_SCHEMA.names]  # columns too: shards may be those of another version
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    folder = out / f".partial-{key}"
    for other in out.glob(".partial-*"):  # left by an interrupted call with other input
        if other != folder:
            shutil.rmtree(other)
    try:
        _make_missing(source, shards, folder, wanted, progress=progress, make=make)
        info = join_shards(source, shards, folder, out, wanted, where=where)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)
    return info


def _make_missing(
    source: RawDataSet, shards: Shards, folder: Path, wanted: dict[str, Any], *, progress: bool, make: ShardMaker
) -> None:
    """Make the shards that are not in `folder` yet."""
    from tqdm import tqdm

    make_rows = RowMaker(source.load, source.keypoint_names(), wanted["image_size"], wanted["image_coding"])
    missing = {shard: tasks for shard, tasks in shards.items() if not shard_path(folder, shard).is_file()}
    total, done = len(source.tasks), sum(len(shards[shard]) for shard in shards.keys() - missing.keys())
    with tqdm(total=total, initial=done, desc=wanted["name"], unit="image", disable=not progress) as bar:
        for shard in make(make_rows, missing, folder):
            bar.update(len(shards[shard]))

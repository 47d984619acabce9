"""Join the shards of a data set: leave out what no pair can be made of, and write the files.

Loading an image can lose keypoints (they lie outside it) and whole objects (the file is damaged). So whether an object
has a partner is decided here, once every object is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from nmt.data.prepare.shards import Shards, read_shard
from nmt.data.readers.base import NO_PARTNER, OUTSIDE_IMAGE, Entry, counted
from nmt.data.readers.listed_pairs import FEW_COMMON
from nmt.data.readers.registry import RawDataSet
from nmt.data.store.given_pairs import EVALUATION_ONLY, PAIRS_FILE, GivenPair, write_pairs
from nmt.data.store.manifest import write_manifest
from nmt.data.store.objects import INDEX_FILE, MIN_KEYPOINTS, SPLITS, StoreInfo, write_index
from nmt.data.store.partners import Partners
from nmt.data.store.present import OBJECTS_FILE
from nmt.data.store.writer import ObjectWriter
from nmt.errors import UserError
from nmt.io.files import atomic_output


@dataclass(frozen=True, slots=True)
class _Row:
    """The columns of a row that decide about pairs."""

    id: str
    group: tuple[str, str]
    """split, category"""
    photo: str
    keypoints: frozenset[Hashable]
    """names"""


@dataclass
class _Loaded:
    """What all shards hold together."""

    left_out: Counter[str]
    """reason -> number of objects, pairs or keypoints"""
    partners: Partners = field(default_factory=Partners)
    points: dict[str, frozenset[Hashable]] = field(default_factory=dict)
    """object id -> names of its keypoints, for data sets with given pairs; empty for others"""
    num_keypoints: int = 0


def join_shards(
    source: RawDataSet, shards: Shards, folder: Path, out: Path, wanted: Mapping[str, Any], *, where: str
) -> StoreInfo:
    """Write the data set from its shards. objects.arrow appears last, once pairs and index are complete.

    Args:
        source: the raw data set.
        shards: all of them, complete.
        folder: where the shards lie.
        out: folder of the data set.
        wanted: fields of `StoreInfo` that are known before anything is read.
        where: the raw data set, as error messages name it.

    Raises:
        UserError: train or val has no pairs, or a category lacks them in a data set that needs all.
    """
    names = source.keypoint_names()
    loaded = _read_all(source, shards, folder, names)
    pairs = None if source.pairs is None else _usable_pairs(source.pairs, loaded)
    paired = {key for pair in pairs or () for key in (pair.id0, pair.id1)}

    def keep(row: _Row) -> bool:
        return loaded.partners.has(row.group, row.photo, row.keypoints) if pairs is None else row.id in paired

    with atomic_output(out / OBJECTS_FILE) as partial:
        writer = ObjectWriter(partial, names, image_size=wanted["image_size"], image_coding=wanted["image_coding"])
        with contextlib.closing(writer):
            numbers = _write_rows(writer, shards, folder, names, keep, loaded)
            _check_usable(source, loaded, writer.counts, where)
            left_out = dict(+loaded.left_out)  # without reasons that were counted zero times
            info = StoreInfo(
                **wanted, keypoint_names=names, counts=writer.counts, left_out=left_out, notes=list(source.notes)
            )
            writer.finish(info)
        if pairs is not None:
            with atomic_output(out / PAIRS_FILE) as pairs_partial:
                write_pairs(pairs_partial, pairs, numbers, info)
        with atomic_output(out / INDEX_FILE) as index_partial:
            write_index(partial, index_partial)
    write_manifest(out)
    return info


def _rows(batch: pa.RecordBatch, names: Mapping[str, list[str]]) -> list[_Row]:
    categories = list(names)
    columns = (batch.column(name).to_pylist() for name in ("id", "split", "category", "photo", "keypoints"))
    return [
        _Row(key, (SPLITS[split], categories[c]), photo, frozenset(names[categories[c]][k] for k in keypoints))
        for key, split, c, photo, keypoints in zip(*columns, strict=True)
    ]


def _read_all(source: RawDataSet, shards: Shards, folder: Path, names: Mapping[str, list[str]]) -> _Loaded:
    """Read the shards once, without their images."""
    loaded = _Loaded(Counter(source.left_out))
    for shard in shards:
        batch, reasons = read_shard(folder, shard)
        loaded.left_out.update(reasons)
        for row in _rows(batch, names):
            loaded.partners.add(row.group, row.photo, row.keypoints)
            loaded.num_keypoints += len(row.keypoints)
            if source.pairs is not None:
                loaded.points[row.id] = row.keypoints
    return loaded


def _usable_pairs(given: Sequence[GivenPair], loaded: _Loaded) -> list[GivenPair]:
    """Keep the given pairs that have two common keypoints in the data set; count the others."""
    pairs = []
    for pair in given:
        points0, points1 = (loaded.points.get(key, frozenset()) for key in (pair.id0, pair.id1))
        common = tuple(name for name in pair.keypoints if name in points0 and name in points1)
        if len(common) >= MIN_KEYPOINTS:
            pairs.append(dataclasses.replace(pair, keypoints=common))
        else:
            loaded.left_out[FEW_COMMON] += 1
    return pairs


def _write_rows(
    writer: ObjectWriter,
    shards: Shards,
    folder: Path,
    names: Mapping[str, list[str]],
    keep: Callable[[_Row], bool],
    loaded: _Loaded,
) -> dict[str, int]:
    """Write the rows to keep, and count the others. Returns object id -> its row, for data sets with given pairs."""
    numbers: dict[str, int] = {}
    num_rows = 0
    for shard in shards:
        batch, _ = read_shard(folder, shard)
        rows = _rows(batch, names)
        kept = [k for k, row in enumerate(rows) if keep(row)]
        if len(kept) < len(rows):
            loaded.left_out[NO_PARTNER] += len(rows) - len(kept)
            batch = batch.take(pa.array(kept, pa.int64()))
        if loaded.points:
            numbers.update((rows[k].id, num_rows + n) for n, k in enumerate(kept))
        num_rows += len(kept)
        if kept:
            writer.add_rows(batch)
    return numbers


def _check_usable(source: RawDataSet, loaded: _Loaded, counts: Mapping[str, Mapping[str, int]], where: str) -> None:
    """Check that train and val have pairs, and with `every_split` each category in each split. Raises UserError.

    A data set for evaluation alone needs pairs in any split.
    Every object that is counted has a partner, so a split with objects has pairs.
    """
    because = _because(source, loaded)
    if source.every_split:
        for split, category in ((split, category) for category in counts[SPLITS[0]] for split in SPLITS):
            num = loaded.partners.num_photos((split, category))
            if num < 2:
                raise UserError(
                    f"{where}: category {category} has {num} photograph(s) in {split}; a pair needs two: add "
                    f"photographs, or remove {category} from the raw folder{because}"
                )
            if not counts[split][category]:
                raise UserError(
                    f"{where}: category {category} has no two photographs with {MIN_KEYPOINTS} common keypoints in "
                    f"{split}: add photographs, or remove {category} from the raw folder{because}"
                )
    if source.options.get(EVALUATION_ONLY):
        if not any(any(of_split.values()) for of_split in counts.values()):
            raise UserError(f"{where}: no pairs are left{because}")
        return
    for split in SPLITS[:2]:
        if not any(counts[split].values()):
            raise UserError(
                f"{where}: no pairs are left in split {split}; a pair needs two photographs of a category with "
                f"{MIN_KEYPOINTS} common keypoints{because}"
            )


def _because(source: RawDataSet, loaded: _Loaded) -> str:
    """Say what was left out, and what to do where the coordinates are of larger images."""
    text = f"; left out: {counted(loaded.left_out)}" if +loaded.left_out else ""
    outside = loaded.left_out[OUTSIDE_IMAGE]
    if outside > loaded.num_keypoints:
        listed = sum(len(task.points) for task in source.tasks if isinstance(task, Entry))
        share = "every keypoint lies outside its image" if outside == listed else "most keypoints lie outside the image"
        text += f" ({share}: were the images made smaller after labelling? Scale the coordinates with them)"
    return text

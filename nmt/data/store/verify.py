"""Verify a prepared data set: every row is what training relies on, and no file has changed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmt.data.store.arrow import ArrowTable
from nmt.data.store.features import FeatureTable
from nmt.data.store.given_pairs import EVALUATION_ONLY, PairTable, open_pairs
from nmt.data.store.manifest import MANIFEST_FILE, data_files, parse_manifest
from nmt.data.store.node_copy import local_copy
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS, ObjectStore, RowIndex, StoreInfo
from nmt.data.store.partners import pair_faults
from nmt.data.store.photographs import Photographs
from nmt.data.store.present import OBJECTS_FILE, PHOTOGRAPHS_FILE
from nmt.errors import UserError, one_line
from nmt.io.file_record import record

_SHOWN = 5
"""faults that the error message names"""


@dataclass(frozen=True)
class VerifiedData:
    """Counts of the verified rows and files; prints as a table."""

    directory: Path
    info: StoreInfo
    rows: int
    keypoints: int
    pairs: int
    """number of given pairs"""
    files: list[str]

    def __str__(self) -> str:
        lines = [self.info.counts_table()]
        given = f", {self.pairs} given pairs" if self.pairs else ""
        lines.append(
            f"{self.directory}: {self.rows} objects with {self.keypoints} keypoints{given}, every row and file is "
            f"right ({', '.join(self.files)}); fingerprint {self.info.fingerprint}, identity {self.info.identity}"
        )
        return "\n".join(lines)


def check(data: str | Path, *, progress: bool = False) -> VerifiedData:
    """Read and verify every row of every file of a data set.

    Args:
        data: a folder or an address.
        progress: show a progress bar.

    Raises:
        UserError: no data set there, which rows of which file are wrong and how, or no pairs in train or val.
    """
    from tqdm import tqdm

    directory = local_copy(data, features=["features/*", PHOTOGRAPHS_FILE])
    store = ObjectStore.open(directory)
    faults = [*_file_faults(directory), *_set_faults(store)]
    for row in tqdm(range(len(store)), desc=f"check {store.info.name}", unit="row", disable=not progress):
        faults += [f"row {row} ({_name(store, row)}): {fault}" for fault in row_faults(store, row)]
        if len(faults) > _SHOWN:
            break
    num_pairs = 0
    if not faults:
        num_pairs, given_faults = _check_given_pairs(store)
        faults += [*given_faults, *([] if store.info.options.get(EVALUATION_ONLY) else pair_faults(store))]
        for path in sorted((directory / "features").glob("*.arrow")):
            faults += _feature_faults(store, path)
        faults += _photograph_faults(store)
    if faults:
        more = " ..." if len(faults) > _SHOWN else ""
        raise UserError(f"{directory}: {'; '.join(faults[:_SHOWN])}{more}; make the data set anew (delete the folder)")
    keypoints = sum(len(store.keypoints(row)) for row in range(len(store)))
    return VerifiedData(
        directory, store.info, len(store), keypoints, num_pairs, [str(f) for f in data_files(directory)]
    )


def _name(store: ObjectStore, row: int) -> str:
    try:
        return store.id(row)
    except UnicodeDecodeError:
        return "no readable id"


def _file_faults(directory: Path) -> Iterator[str]:
    """Yield the files that are not those of the manifest."""
    path = directory / MANIFEST_FILE
    if not path.is_file():
        return
    for name, expected in parse_manifest(path.read_bytes(), str(path)).items():
        if not (directory / name).is_file():
            yield f"{name} is missing"
        elif record(directory / name) != expected:
            yield f"{name} has changed since it was made"


def _set_faults(store: ObjectStore) -> Iterator[str]:
    """Yield what is wrong with the columns as a whole. If nothing is, rows can be read."""
    info, num_categories = store.info, len(store.info.categories)
    if not ((store.split >= 0) & (store.split < len(SPLITS))).all():
        yield "splits out of range"
    elif not ((store.category >= 0) & (store.category < num_categories)).all():
        yield "categories out of range"
    else:
        counts = {s: {c: len(r) for c, r in zip(info.categories, store.rows(s), strict=True)} for s in SPLITS}
        if counts != info.counts:
            yield "the counts of its metadata are not those of its rows"
        photo_split = np.unique(np.stack([store.photo, store.split]), axis=1)
        if len(np.unique(photo_split[0])) < photo_split.shape[1]:
            yield "a photograph is in two splits"
        computed = RowIndex.compute(ArrowTable(store.directory / OBJECTS_FILE, remedy=""), num_categories)
        if not np.array_equal(computed.order, np.concatenate([r for s in SPLITS for r in store.rows(s)])):
            yield "the index is not that of the objects"
    twice = [key for key, num in Counter(_name(store, row) for row in range(len(store))).items() if num > 1]
    if twice:
        yield f"ids are there twice: {', '.join(twice[:_SHOWN])}"


def row_faults(store: ObjectStore, row: int) -> Iterator[str]:
    """Yield what is wrong with one object."""
    ids, points = store.keypoints(row), store._points[row]
    names = store.info.keypoint_names[store.info.categories[store.category[row]]]
    if len(ids) < MIN_KEYPOINTS:
        yield f"{len(ids)} keypoints"
    if len(ids) and not ((np.diff(ids) > 0).all() and ids[0] >= 0 and ids[-1] < len(names)):
        yield "keypoints out of order or range"
    if len(points) != 2 * len(ids):
        yield f"{len(points)} coordinates of {len(ids)} keypoints"
    elif not (np.isfinite(points).all() and (points >= 0).all() and (points <= store.info.image_size).all()):
        yield "points outside the image"
    if store._sizes is not None:
        sizes = store._sizes[row]
        if len(sizes) != 4 or not (np.isfinite(sizes).all() and (sizes >= 0).all() and (sizes[:2] > 0).all()):
            yield "sizes that are none"
    edges = store._edges[row]
    if len(edges) % 2 or not ((edges >= 0) & (edges < len(ids))).all():
        yield "edges that join no keypoints"
    elif (edges.reshape(2, -1)[0] == edges.reshape(2, -1)[1]).any():
        yield "an edge from a keypoint to itself"
    try:
        shape = store.image(row).shape
    except (OSError, SyntaxError, ValueError) as error:
        yield f"its image cannot be decoded ({one_line(error)})"
    else:
        if shape != (store.info.image_size, store.info.image_size, 3):
            yield f"an image of {shape}"


def _check_given_pairs(store: ObjectStore) -> tuple[int, list[str]]:
    table = open_pairs(store)
    if table is None:
        return 0, []
    faults = [
        f"given pair {pair}: joins no two objects of its split and one category that have its keypoints"
        for pair in range(len(table.split))
        if not _is_pair(store, table, pair)
    ]
    return len(table.split), faults


def _is_pair(store: ObjectStore, table: PairTable, pair: int) -> bool:
    rows = [int(table.row0[pair]), int(table.row1[pair])]
    if not all(0 <= row < len(store) and store.split[row] == table.split[pair] for row in rows):
        return False
    ids = table.keypoints(pair)
    both = all(np.isin(ids, store.keypoints(row)).all() for row in rows)
    return both and len(ids) >= MIN_KEYPOINTS and store.category[rows[0]] == store.category[rows[1]]


def _feature_faults(store: ObjectStore, path: Path) -> Iterator[str]:
    table = FeatureTable(path, remedy="")
    if table.info["data_set"] != store.info.identity:
        return  # of another version: refused where it is opened, made anew by --prepare
    for row, view in itertools.product(range(len(store)), range(table.views)):
        try:
            nodes, feature = table.nodes(row, view), table.global_feature(row, view)
        except (IndexError, ValueError):
            yield f"{path.name}: row {row} is not whole"
            return
        whole = nodes.shape == (len(store.keypoints(row)), table.channels) and len(feature) == table.global_channels
        if not whole or not np.isfinite(nodes).all() or not np.isfinite(feature).all():
            yield f"{path.name}: row {row} has other features than keypoints, or such that are not finite"
            return


def _photograph_faults(store: ObjectStore) -> Iterator[str]:
    """Yield what is wrong with the whole photographs, if they are there and of this version of the data set."""
    try:
        photographs = Photographs(store.directory)
    except UserError:
        return  # refused where it is opened, made anew by --prepare
    if not np.isin(photographs.split, [0, 1]).all():
        yield f"{PHOTOGRAPHS_FILE}: holds photographs of other splits than train and val"
    for row in range(len(photographs)):
        try:
            shape = photographs.image(row).shape
        except (OSError, SyntaxError, ValueError) as error:
            yield f"{PHOTOGRAPHS_FILE}: row {row} cannot be decoded ({one_line(error)})"
            return
        if shape != (store.info.image_size, store.info.image_size, 3):
            yield f"{PHOTOGRAPHS_FILE}: row {row} is an image of {shape}"
            return

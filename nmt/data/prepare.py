"""Raw data set -> Arrow data set (nmt/data/store.py)."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.config import Config
from nmt.data import own, spair, voc, willow
from nmt.data.pairs import GIVEN_PAIRS, PAIRS_FILE, open_pairs, write_pairs
from nmt.data.raw import GivenPair, Listing, counting, load
from nmt.data.store import (
    MIN_KEYPOINTS,
    OBJECTS_FILE,
    SPLITS,
    ObjectStore,
    ObjectWriter,
    RawObject,
    StoreInfo,
)
from nmt.errors import UserError, nearest
from nmt.files import atomic_output, output_folder

IMAGE_CODING = "jpeg"
"""of the images written; every reader of the store reads both"""
_READER_VERSION = 1
"""raised when a reader gives something else for the same files, so that data sets are made anew"""
_RENDER_CHUNK = 16


@dataclass(frozen=True)
class PrepareReport:
    """What a data set holds; printed, it is a table."""

    directory: Path
    info: StoreInfo
    seconds: float
    made: bool
    """False: it was there already, made from the same raw input with the same options"""
    pairs: dict[str, int]
    """split -> given pairs; empty where pairs are drawn"""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """split -> category -> objects"""
        return self.info.counts

    @property
    def left_out(self) -> int:
        """objects of the raw input that are not in the data set"""
        return sum(self.info.left_out.values())

    def __str__(self) -> str:
        width = max(len(category) for category in [*self.info.categories, "category"])
        rows: dict[str, list[object]] = {"category": list(SPLITS)}
        rows |= {category: [self.counts[split][category] for split in SPLITS] for category in self.info.categories}
        totals = [sum(self.counts[split].values()) for split in SPLITS]
        rows["all"] = list(totals)
        lines = [f"{title:{width}}" + "".join(f"{cell:>7}" for cell in cells) for title, cells in rows.items()]
        if self.pairs:
            lines.append("given pairs: " + ", ".join(f"{num} {split}" for split, num in self.pairs.items()))
        if self.left_out:
            lines.append("left out: " + ", ".join(f"{n} {reason}" for reason, n in self.info.left_out.items()))
        done = f"made in {self.seconds:.1f} s" if self.made else "was there already"
        lines.append(
            f"{self.directory}: {sum(totals)} images of {self.info.image_size} x {self.info.image_size}, {done}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Source:
    """A raw data set by name: what `prepare` needs to know of it."""

    fingerprint: Callable[[], str]
    keypoint_names: Callable[[], dict[str, list[str]]]
    objects: Callable[[Counter[str]], Iterator[RawObject]]
    """yields every object; counts by reason what it leaves out"""
    total: Callable[[], int]
    """about how many objects there are"""
    options: dict[str, Any] = field(default_factory=dict)
    """how this raw data set is read, as the data set will say"""
    pairs: Callable[[], Sequence[GivenPair]] | None = None
    """the given pairs, by object id; None: pairs are drawn"""
    every_split: bool = True
    """each category must have a pair in each split; else a split may be without some of them"""


def prepare(
    config: Config,
    *,
    raw: Path | None,
    out: Path,
    skip_bad: bool = False,
    seed: int = 0,
    difficulty: Mapping[str, Sequence[int]] | None = None,
    progress: bool = False,
) -> PrepareReport:
    """Makes the Arrow data set `config.data.name` at `config.data.image_size`.

    Args:
        raw: folder of the raw data set; None for those that are rendered. A name without a reader of its own is one
            of the user's own data sets.
        out: folder of the Arrow data set, data/NAME.
        skip_bad: leave unreadable images and annotations out and count them.
        seed: of what is random in making it (rendering, rotated views).
        difficulty: the levels of given pairs to keep (nmt/data/spair.py).

    Raises:
        UserError: unknown name; raw folder missing or empty; an unreadable file; a category with fewer than two
            photographs in a split. Nothing is left half-written.
    """
    started, name, size = time.perf_counter(), config.data.name, config.data.image_size
    source = _source(name, raw, size=size, skip_bad=skip_bad, seed=seed, difficulty=difficulty or {})
    wanted = {
        "name": name,
        "image_size": size,
        "image_coding": IMAGE_CODING,
        "options": {"skip_bad": skip_bad, "reader": _READER_VERSION, **source.options},
        "seed": seed,
        "fingerprint": source.fingerprint(),
    }
    info = _finished(out, wanted)
    made = info is None
    if info is None:
        with output_folder(out):
            info = _write(source, out, wanted, progress=progress)
    table = open_pairs(ObjectStore.open(out))
    pairs = {split: len(table.of(split)) for split in SPLITS} if table else {}
    return PrepareReport(out, info, time.perf_counter() - started, made, pairs)


def _source(
    name: str,
    raw: Path | None,
    *,
    size: int,
    skip_bad: bool,
    seed: int,
    difficulty: Mapping[str, Sequence[int]],
) -> Source:
    if name in GIVEN:
        return _spair(name, raw, size=size, skip_bad=skip_bad, difficulty=difficulty)
    if difficulty:
        raise UserError(f"--difficulty: {name} has no given pairs; those that have: {', '.join(GIVEN)}")
    if name in SOURCES:
        return SOURCES[name](raw, size=size, skip_bad=skip_bad, seed=seed)
    if raw is None:
        hint = nearest(name, [*SOURCES, *GIVEN])
        raise UserError(f"--prepare {name}: no reader for such a data set; {hint} (data of your own needs --raw DIR)")
    try:
        return _listed(own.read(raw, skip_bad=skip_bad), size=size, skip_bad=skip_bad)
    except UserError as error:
        close = difflib.get_close_matches(name, [*SOURCES, *GIVEN], n=1)
        if not close:
            raise
        raise UserError(f"{error} (as one of your own data sets; or did you mean --prepare {close[0]}?)") from error


def _finished(out: Path, wanted: dict[str, Any]) -> StoreInfo | None:
    """What is in `out`, if that is what is wanted."""
    with contextlib.suppress(UserError):
        info = ObjectStore.open(out).info
        if all(getattr(info, key) == value for key, value in wanted.items()):
            open_pairs(ObjectStore.open(out))
            return info
    return None


def _write(source: Source, out: Path, wanted: dict[str, Any], *, progress: bool) -> StoreInfo:
    from tqdm import tqdm

    names, left_out = source.keypoint_names(), Counter[str]()
    rows: dict[str, tuple[int, frozenset[str]]] = {}
    with atomic_output(out / OBJECTS_FILE) as partial:
        writer = ObjectWriter(partial, names, image_size=wanted["image_size"], image_coding=wanted["image_coding"])
        with contextlib.closing(writer):
            objects = source.objects(left_out)
            for raw_object in tqdm(
                objects, desc=wanted["name"], total=source.total(), unit="image", disable=not progress
            ):
                writer.add(raw_object)
                if source.pairs:
                    rows[raw_object.id] = len(rows), frozenset(raw_object.points)
            pairs = _pairs_of(source.pairs(), rows, left_out) if source.pairs else None
            if pairs is None:
                _check_pairs(wanted["name"], names, writer.photos, every_split=source.every_split)
            info = StoreInfo(**wanted, keypoint_names=names, counts=writer.counts, left_out=dict(left_out))
            if pairs is not None:
                with atomic_output(out / PAIRS_FILE) as pairs_partial:
                    write_pairs(pairs_partial, pairs, {key: row for key, (row, _) in rows.items()}, info)
            writer.finish(info)
    return info


def _pairs_of(
    given: Sequence[GivenPair], rows: Mapping[str, tuple[int, frozenset[str]]], left_out: Counter[str]
) -> list[GivenPair]:
    """The given pairs between objects of the data set, with the keypoints both of them have there."""
    pairs = []
    for pair in given:
        points0, points1 = (rows.get(key, (0, frozenset[str]()))[1] for key in (pair.id0, pair.id1))
        common = tuple(name for name in pair.keypoints if name in points0 and name in points1)
        if len(common) >= MIN_KEYPOINTS:
            pairs.append(dataclasses.replace(pair, keypoints=common))
        else:
            left_out[spair.FEW_COMMON] += 1
    return pairs


def _check_pairs(
    name: str, categories: dict[str, list[str]], photos: Counter[tuple[str, str]], *, every_split: bool
) -> None:
    for category in categories:
        for split in SPLITS:
            num = photos[split, category]
            if num == 1 or (num == 0 and every_split):
                raise UserError(
                    f"{name}: category {category} has {num} photograph(s) in {split}; a pair needs "
                    f"two: add photographs, or take {category} out of the raw folder"
                )


def files_fingerprint(files: list[Path]) -> str:
    """Hash of the files' folders, names and content."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(
                f"{path.parent.name}/{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode()
            )
    return total.hexdigest()[:16]


def _willow(raw: Path | None, *, size: int, skip_bad: bool, seed: int, rotated: bool) -> Source:
    if raw is None:
        name = "willow_rotated" if rotated else "willow"
        raise UserError(f"--prepare {name}: needs the raw data set: --raw DIR, the folder WILLOW-ObjectClass")

    def objects(left_out: Counter[str]) -> Iterator[RawObject]:
        return willow.read(raw, size=size, rotated=rotated, skip_bad=skip_bad, seed=seed, left_out=left_out)

    files = willow.raw_files(raw)
    return Source(
        fingerprint=lambda: files_fingerprint(files),
        keypoint_names=lambda: willow.keypoint_names(raw),
        objects=objects,
        total=lambda: len(files) // 2 * (willow.VIEWS if rotated else 1),
    )


def _demo(raw: Path | None, *, size: int, skip_bad: bool, seed: int) -> Source:
    from nmt.data import demo

    if raw is not None:
        raise UserError("--prepare demo: takes no --raw, the project renders the demo itself")
    code = sorted(Path(__file__).parent.glob("demo*.py"))
    return Source(
        fingerprint=lambda: files_fingerprint(code),
        keypoint_names=lambda: {category: list(names) for category, names in demo.CATEGORIES.items()},
        objects=lambda left_out: _render_demo(size, seed, left_out),
        total=lambda: len(demo.object_list()),
    )


def _render_demo(size: int, seed: int, left_out: Counter[str]) -> Iterator[RawObject]:
    """The demo's objects in order, rendered on every core."""
    from nmt.data import demo

    tasks = [(category, index, size, seed) for category, index, _ in demo.object_list()]
    # Started afresh: a fork of a process that runs threads (torch, Ray) may hang.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for rendered in pool.map(_render_one, tasks, chunksize=_RENDER_CHUNK):
            if len(rendered.points) >= MIN_KEYPOINTS:
                yield rendered
            else:
                left_out[f"fewer than {MIN_KEYPOINTS} keypoints"] += 1


def _render_one(task: tuple[str, int, int, int]) -> RawObject:
    from nmt.data import demo

    category, index, size, seed = task
    return demo.render_object(category, index, size=size, seed=seed)


def _listed(listing: Listing, *, size: int, skip_bad: bool, **options: Any) -> Source:
    """The source of a data set that a reader has listed."""

    def objects(left_out: Counter[str]) -> Iterator[RawObject]:
        left_out.update(listing.left_out)
        for entry in listing.entries:
            loaded = None
            with counting(left_out, skip_bad=skip_bad):
                loaded = load(entry, size=size)
            if loaded is not None:
                yield loaded

    pairs = listing.pairs
    return Source(
        fingerprint=lambda: files_fingerprint(listing.input_files()),
        keypoint_names=listing.keypoint_names,
        objects=objects,
        total=lambda: len(listing.entries),
        options=options,
        pairs=None if pairs is None else lambda: pairs,
        every_split=False,
    )


def _voc(raw: Path | None, *, size: int, skip_bad: bool, seed: int) -> Source:
    if raw is None:
        raise UserError(
            "--prepare voc: needs the raw data set: --raw DIR, with VOC2011, annotations and the split file"
        )
    return _listed(voc.read(raw, skip_bad=skip_bad), size=size, skip_bad=skip_bad)


def _spair(
    name: str, raw: Path | None, *, size: int, skip_bad: bool, difficulty: Mapping[str, Sequence[int]]
) -> Source:
    if raw is None:
        raise UserError(f"--prepare {name}: needs the raw data set: --raw DIR, the folder SPair-71k")
    listing = spair.read(raw, layout=GIVEN[name], difficulty=difficulty, skip_bad=skip_bad)
    options = {"layout": GIVEN[name], "difficulty": {k: list(v) for k, v in difficulty.items()}, GIVEN_PAIRS: True}
    return _listed(listing, size=size, skip_bad=skip_bad, **options)


SOURCES: dict[str, Callable[..., Source]] = {
    "demo": _demo,
    "voc": _voc,
    "willow": functools.partial(_willow, rotated=False),
    "willow_rotated": functools.partial(_willow, rotated=True),
}
"""data.name -> its source, from (raw, size=, skip_bad=, seed=)"""
GIVEN = {"spair": "large", "spair_small": "small"}
"""data.name of the data sets with given pairs -> their layout"""

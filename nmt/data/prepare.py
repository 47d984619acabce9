"""Raw data set -> Arrow data set (nmt/data/store.py)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import Config
from nmt.data import willow
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


def prepare(
    config: Config, *, raw: Path | None, out: Path, skip_bad: bool = False, seed: int = 0, progress: bool = False
) -> PrepareReport:
    """Makes the Arrow data set `config.data.name` at `config.data.image_size`.

    Args:
        raw: folder of the raw data set; None for those that are rendered.
        out: folder of the Arrow data set, data/NAME.
        skip_bad: leave unreadable images and annotations out and count them.
        seed: of what is random in making it (rendering, rotated views).

    Raises:
        UserError: unknown name; raw folder missing or empty; an unreadable file; a category with fewer than two
            photographs in a split. Nothing is left half-written.
    """
    started, name, size = time.perf_counter(), config.data.name, config.data.image_size
    if name not in SOURCES:
        raise UserError(f"--prepare {name}: no reader for such a data set; {nearest(name, SOURCES)}")
    source = SOURCES[name](raw, size=size, skip_bad=skip_bad, seed=seed)
    wanted = {
        "name": name,
        "image_size": size,
        "image_coding": IMAGE_CODING,
        "options": {"skip_bad": skip_bad, "reader": _READER_VERSION},
        "seed": seed,
        "fingerprint": source.fingerprint(),
    }
    info = _finished(out, wanted)
    made = info is None
    if info is None:
        with output_folder(out):
            info = _write(source, out, wanted, progress=progress)
    return PrepareReport(out, info, time.perf_counter() - started, made)


def _finished(out: Path, wanted: dict[str, Any]) -> StoreInfo | None:
    """What is in `out`, if that is what is wanted."""
    with contextlib.suppress(UserError):
        info = ObjectStore.open(out).info
        if all(getattr(info, key) == value for key, value in wanted.items()):
            return info
    return None


def _write(source: Source, out: Path, wanted: dict[str, Any], *, progress: bool) -> StoreInfo:
    from tqdm import tqdm

    names, left_out = source.keypoint_names(), Counter[str]()
    with atomic_output(out / OBJECTS_FILE) as partial:
        writer = ObjectWriter(partial, names, image_size=wanted["image_size"], image_coding=wanted["image_coding"])
        with contextlib.closing(writer):
            objects = source.objects(left_out)
            for raw_object in tqdm(
                objects, desc=wanted["name"], total=source.total(), unit="image", disable=not progress
            ):
                writer.add(raw_object)
            _check_pairs(wanted["name"], names, writer.photos)
            info = StoreInfo(**wanted, keypoint_names=names, counts=writer.counts, left_out=dict(left_out))
            writer.finish(info)
    return info


def _check_pairs(name: str, categories: dict[str, list[str]], photos: Counter[tuple[str, str]]) -> None:
    for category in categories:
        for split in SPLITS:
            if photos[split, category] < 2:
                raise UserError(
                    f"{name}: category {category} has {photos[split, category]} photograph(s) in {split}; a pair needs "
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


SOURCES: dict[str, Callable[..., Source]] = {
    "demo": _demo,
    "willow": functools.partial(_willow, rotated=False),
    "willow_rotated": functools.partial(_willow, rotated=True),
}
"""data.name -> its source, from (raw, size=, skip_bad=, seed=)"""

"""The raw data sets by name: how each is listed, in pieces that any process can load."""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.data.readers import spair, voc, willow
from nmt.data.readers import user_data as own
from nmt.data.readers.base import FEW_KEYPOINTS, Entry, RawListing, counting, load
from nmt.data.store.given_pairs import GIVEN_PAIRS, GivenPair
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.data.store.writer import RawObject
from nmt.errors import UserError, nearest

Loaded = tuple[list[RawObject], Counter[str]]
"""objects, and what was left out by reason"""


@dataclass(frozen=True)
class RawDataSet:
    """Everything that `prepare` needs from a reader."""

    fingerprint: Callable[[], str]
    """hash of everything the data set is made from"""
    keypoint_names: Callable[[], dict[str, list[str]]]
    """category -> names of its keypoints"""
    tasks: Sequence[Any]
    """units of work in the order of the data set; each yields one object, several, or none"""
    load: Callable[[Any], Loaded]
    """function that does one unit of work, in any process"""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """reason -> objects that were left out before `tasks` was made"""
    options: dict[str, Any] = field(default_factory=dict)
    """reader options, recorded in the data set"""
    pairs: Sequence[GivenPair] | None = None
    """given pairs, by object id; None: pairs are drawn"""
    mirror: dict[str, dict[str, str]] = field(default_factory=dict)
    """category -> keypoint name -> its name in the mirrored image; names that do not change are omitted"""
    every_split: bool = True
    """True: every category needs a pair in every split; False: a split may lack some categories"""


def find_source(
    name: str,
    raw: Path | None,
    *,
    size: int,
    skip_bad: bool,
    seed: int,
    difficulty: Mapping[str, Sequence[int]],
) -> RawDataSet:
    """Find the reader of a data set and list the raw data.

    Args:
        name: a name in SOURCES or GIVEN; any other name is a data set of the user's own (see user_data).
        raw: folder of the raw data; None for `demo`, which is rendered.
        size: side of the square images, pixels.
        skip_bad: leave damaged files out and count them, instead of raising UserError.
        seed: for what is random in making the data set.
        difficulty: levels of given pairs to keep, see spair.read.

    Raises:
        UserError: unknown name, raw folder missing or empty, an annotation that cannot be read.
    """
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


def files_fingerprint(files: list[Path]) -> str:
    """Hash the content, name and folder of each file: 16 hex digits."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(
                f"{path.parent.name}/{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode()
            )
    return total.hexdigest()[:16]


def _willow(raw: Path | None, *, size: int, skip_bad: bool, seed: int, rotated: bool) -> RawDataSet:
    if raw is None:
        name = "willow_rotated" if rotated else "willow"
        raise UserError(f"--prepare {name}: needs the raw data set: --raw DIR, the folder WILLOW-ObjectClass")

    files = willow.raw_files(raw)
    return RawDataSet(
        fingerprint=lambda: files_fingerprint(files),
        keypoint_names=lambda: willow.keypoint_names(raw),
        tasks=willow.photographs(raw),
        load=functools.partial(willow.load, size=size, seed=seed if rotated else None, skip_bad=skip_bad),
    )


def _demo(raw: Path | None, *, size: int, skip_bad: bool, seed: int) -> RawDataSet:
    from nmt.data.readers.demo import render as demo

    if raw is not None:
        raise UserError("--prepare demo: takes no --raw, the project renders the demo itself")
    code = sorted((Path(__file__).parent / "demo").glob("*.py"))
    return RawDataSet(
        fingerprint=lambda: files_fingerprint(code),
        keypoint_names=lambda: {category: list(names) for category, names in demo.CATEGORIES.items()},
        tasks=[(category, index) for category, index, _ in demo.object_list()],
        load=functools.partial(_render, size=size, seed=seed),
    )


def _render(task: tuple[str, int], *, size: int, seed: int) -> Loaded:
    from nmt.data.readers.demo import render as demo

    rendered = demo.render_object(*task, size=size, seed=seed)
    return ([rendered], Counter()) if len(rendered.points) >= MIN_KEYPOINTS else ([], Counter({FEW_KEYPOINTS: 1}))


def _listed(listing: RawListing, *, size: int, skip_bad: bool, **options: Any) -> RawDataSet:
    """Wrap a reader's listing; `options` are recorded in the data set."""
    return RawDataSet(
        fingerprint=lambda: files_fingerprint(listing.input_files()),
        keypoint_names=listing.keypoint_names,
        tasks=listing.entries,
        load=functools.partial(_load_entry, size=size, skip_bad=skip_bad),
        left_out=listing.left_out,
        options=options,
        pairs=listing.pairs,
        mirror=listing.mirror,
        every_split=False,
    )


def _load_entry(entry: Entry, *, size: int, skip_bad: bool) -> Loaded:
    objects, left_out = list[RawObject](), Counter[str]()
    with counting(left_out, skip_bad=skip_bad):
        objects.append(load(entry, size=size))
    return objects, left_out


def _voc(raw: Path | None, *, size: int, skip_bad: bool, seed: int) -> RawDataSet:
    if raw is None:
        raise UserError(
            "--prepare voc: needs the raw data set: --raw DIR, with VOC2011, annotations and the split file"
        )
    return _listed(voc.read(raw, skip_bad=skip_bad), size=size, skip_bad=skip_bad)


def _spair(
    name: str, raw: Path | None, *, size: int, skip_bad: bool, difficulty: Mapping[str, Sequence[int]]
) -> RawDataSet:
    if raw is None:
        raise UserError(f"--prepare {name}: needs the raw data set: --raw DIR, the folder SPair-71k")
    listing = spair.read(raw, layout=GIVEN[name], difficulty=difficulty, skip_bad=skip_bad)
    options = {"layout": GIVEN[name], "difficulty": {k: list(v) for k, v in difficulty.items()}, GIVEN_PAIRS: True}
    return _listed(listing, size=size, skip_bad=skip_bad, **options)


SOURCES: dict[str, Callable[..., RawDataSet]] = {
    "demo": _demo,
    "voc": _voc,
    "willow": functools.partial(_willow, rotated=False),
    "willow_rotated": functools.partial(_willow, rotated=True),
}
"""data.name -> its source, from (raw, size=, skip_bad=, seed=)"""
GIVEN = {"spair": "large", "spair_small": "small"}
"""data.name of the data sets with given pairs -> their layout"""

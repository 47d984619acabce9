"""The raw data sets that the project reads itself, and how any is found by its name."""

from __future__ import annotations

import difflib
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from nmt.data.readers import ap10k, pf_pascal, pf_willow, spair, voc, willow
from nmt.data.readers.base import FEW_KEYPOINTS, RawListing
from nmt.data.readers.own import read as own
from nmt.data.readers.own.foreign import ARCHIVES
from nmt.data.readers.registry import (
    READERS,
    WITH_DIFFICULTY,
    Loaded,
    RawDataSet,
    ReadOptions,
    files_fingerprint,
    listed,
    register_reader,
)
from nmt.data.store.given_pairs import EVALUATION_ONLY, GIVEN_PAIRS
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.errors import UserError, nearest
from nmt.io.user_files import is_file, shown_path

LAYOUTS = {"spair": "large", "spair_small": "small"}
"""data.name -> layout of SPair-71k"""


def find_source(
    name: str,
    raw: Path | None,
    *,
    size: int,
    skip_bad: bool,
    seed: int,
    difficulty: Mapping[str, Sequence[int]],
    clip_to_box: bool = False,
) -> RawDataSet:
    """Find the raw data set `name`; a name without a reader is a data set of the user's own.

    Raises:
        UserError: unknown name, raw folder missing or empty, an annotation that cannot be read.
    """
    options = ReadOptions(
        name=name, size=size, skip_bad=skip_bad, seed=seed, difficulty=difficulty, clip_to_box=clip_to_box
    )
    reader = READERS.find(name)
    if raw is not None and name != "demo":  # the demo takes no folder either
        _check_folder(raw)
    if clip_to_box and reader is not None:
        raise UserError(f"--clip-to-box: {name} is cut out as published; the flag is for COCO files of your own")
    if difficulty and name not in WITH_DIFFICULTY:
        having = ", ".join(sorted(WITH_DIFFICULTY))
        raise UserError(f"--difficulty: {name} has no given pairs with gradings; those that have: {having}")
    if reader is not None:
        return reader(raw, options)
    known = READERS.names()
    if raw is None:
        hint = nearest(name, known)
        raise UserError(f"--prepare {name}: no reader for such a data set; {hint} (data of your own needs --raw DIR)")
    try:
        listing = own.read(raw, skip_bad=skip_bad, clip_to_box=clip_to_box)
        return listed(listing, options, **({"clip_to_box": True} if clip_to_box else {}), **_given_pairs(listing))
    except UserError as error:
        close = difflib.get_close_matches(name, known, n=1)
        if not close:
            raise
        raise UserError(f"{error} (as one of your own data sets; or did you mean --prepare {close[0]}?)") from error


def _given_pairs(listing: RawListing) -> dict[str, bool]:
    """Return what a data set records of its given pairs; nothing where pairs are drawn."""
    if listing.pairs is None:
        return {}
    return {GIVEN_PAIRS: True} | ({} if any(p.split == "train" for p in listing.pairs) else {EVALUATION_ONLY: True})


def _check_folder(raw: Path) -> None:
    """Raise UserError if `raw` is a file. The readers report a folder that is missing or empty."""
    if not is_file(raw):
        return
    if raw.suffix.lower() in ARCHIVES:
        raise UserError(f"{shown_path(raw)}: an archive; unpack it, and give the folder")
    raise UserError(f"{shown_path(raw)}: a file; give the folder that holds it: --raw {shown_path(raw.parent)}")


@register_reader("demo")
def read_demo(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Render the objects of the demo."""
    from nmt.data.readers.demo import render as demo

    if raw is not None:
        raise UserError("--prepare demo: takes no --raw, the project renders the demo itself")
    code = sorted((Path(__file__).parent / "demo").glob("*.py"))
    return RawDataSet(
        fingerprint=lambda: files_fingerprint(code),
        keypoint_names=lambda: {category: list(names) for category, names in demo.CATEGORIES.items()},
        tasks=[(category, index) for category, index, _ in demo.object_list()],
        load=functools.partial(_render, size=options.size, seed=options.seed),
    )


def _render(task: tuple[str, int], *, size: int, seed: int) -> Loaded:
    from nmt.data.readers.demo import render as demo

    rendered = demo.render_object(*task, size=size, seed=seed)
    return ([rendered], Counter()) if len(rendered.points) >= MIN_KEYPOINTS else ([], Counter({FEW_KEYPOINTS: 1}))


@register_reader("willow_rotated")
@register_reader("willow")
def read_willow(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Read WILLOW-ObjectClass, as it is or in rotated views."""
    if raw is None:
        raise UserError(f"--prepare {options.name}: needs the raw data set: --raw DIR, the folder WILLOW-ObjectClass")

    files, rotated = willow.raw_files(raw), options.name == "willow_rotated"
    return RawDataSet(
        fingerprint=lambda: files_fingerprint(files),
        keypoint_names=lambda: willow.keypoint_names(raw),
        tasks=willow.photographs(raw),
        load=functools.partial(
            willow.load, size=options.size, seed=options.seed if rotated else None, skip_bad=options.skip_bad
        ),
    )


@register_reader("voc")
def read_voc(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Read PascalVOC 2011 with Berkeley's keypoints."""
    if raw is None:
        raise UserError(
            "--prepare voc: needs the raw data set: --raw DIR, with VOC2011, annotations and the split file"
        )
    return listed(voc.read(raw, skip_bad=options.skip_bad), options)


@register_reader("spair_small", difficulty=True)
@register_reader("spair", difficulty=True)
def read_spair(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Read SPair-71k in its large or small layout, with its given pairs."""
    if raw is None:
        raise UserError(f"--prepare {options.name}: needs the raw data set: --raw DIR, the folder SPair-71k")
    layout, difficulty = LAYOUTS[options.name], options.difficulty
    listing = spair.read(raw, layout=layout, difficulty=difficulty, skip_bad=options.skip_bad)
    recorded = {"layout": layout, "difficulty": {k: list(v) for k, v in difficulty.items()}, GIVEN_PAIRS: True}
    return listed(listing, options, **recorded)


@register_reader("spair_u", difficulty=True)
def read_spair_u(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Read SPair-U, which is for evaluation alone."""
    if raw is None:
        raise UserError("--prepare spair_u: needs the raw data set: --raw DIR, the folder SPair-U with JPEGImages")
    difficulty = options.difficulty
    listing = spair.read_unseen(raw, difficulty=difficulty, skip_bad=options.skip_bad)
    recorded = {"difficulty": {k: list(v) for k, v in difficulty.items()}, GIVEN_PAIRS: True, EVALUATION_ONLY: True}
    return listed(listing, options, **recorded)


@register_reader("pf_pascal")
def read_pf_pascal(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Read PF-PASCAL with its lists of pairs."""
    if raw is None:
        raise UserError("--prepare pf_pascal: needs the raw data set: --raw DIR, with PF-dataset-PASCAL and the lists")
    return listed(pf_pascal.read(raw, skip_bad=options.skip_bad), options, **{GIVEN_PAIRS: True})


@register_reader("pf_willow")
def read_pf_willow(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Read PF-WILLOW, which is for evaluation alone."""
    if raw is None:
        raise UserError("--prepare pf_willow: needs the raw data set: --raw DIR, with PF-dataset and the list of pairs")
    recorded = {GIVEN_PAIRS: True, EVALUATION_ONLY: True}
    return listed(pf_willow.read(raw, skip_bad=options.skip_bad), options, **recorded)


@register_reader("ap10k_cross_family")
@register_reader("ap10k_cross_species")
@register_reader("ap10k")
def read_ap10k(raw: Path | None, options: ReadOptions) -> RawDataSet:
    """Read the pairs of AP-10K within species, across species or across families."""
    if raw is None:
        raise UserError(
            f"--prepare {options.name}: needs the raw data set: --raw DIR, the folder ap-10k with its pairs"
        )
    benchmark = ap10k.BENCHMARKS[options.name]
    recorded = {GIVEN_PAIRS: True} | ({} if "train" in benchmark.splits else {EVALUATION_ONLY: True})
    return listed(ap10k.read(raw, benchmark, skip_bad=options.skip_bad), options, **recorded)

"""The winner's weights at work: its hardest validation pairs, and its accuracy at every decoding."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nmt.config import DecodeConfig, from_dict
from nmt.errors import UserError
from nmt.io.files import atomic_write
from nmt.io.page import embedded
from nmt.training.history import decoding_of
from tune.page import winner_plots
from tune.page.figures import Gallery, Plot
from tune.results.definition import space_of
from tune.results.summary import Summary
from tune.results.trial_table import is_swept

ITERATIONS, EPSILONS = (0, 1, 3, 10, 27, 50), (0.02, 0.035, 0.05, 0.1, 0.2)
"""decodings that are tried where the search tried none"""

SECONDS = 3.0
"""limit of matching; the page as a whole takes a few times as long"""
FEWEST_PAIRS = 8
"""fewer pairs show nothing of the matcher"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A hard pair on the page."""

    address: str
    """the picture itself, embedded"""
    category: str
    right: int
    known: int


@dataclass(frozen=True, kw_only=True)
class Winner:
    """What the winner's weights show."""

    pairs: int
    of: int
    decodings: Plot
    hardest: tuple[Picture, ...]


def look_at(summary: Summary, directory: Path, gallery: Gallery) -> Winner | str:
    """Match validation pairs with the winner's weights.

    Returns:
        What it shows; one sentence on why it shows nothing where weights or data set are not at hand.
    """
    best = summary.best
    if best is None:
        return "No trial has completed its epochs, so there is no winner to look at."
    if best.checkpoint is None or not (weights := directory / best.checkpoint).is_file():
        return "The winner's weights are not in this folder, so its decodings and its hardest pairs are left out."
    if not Path(summary.data).is_dir():
        return f"The data set {summary.data} is not here, so the winner's decodings and its hardest pairs are left out."
    from nmt.inference.hardest import look

    try:
        found = look(
            weights, data=summary.data, decode=_decode(best.best), grid=_grid(summary, directory), seconds=SECONDS
        )
    except UserError as error:
        return f"The winner's decodings and its hardest pairs are left out: {error}."
    if found.pairs < min(FEWEST_PAIRS, found.of):
        return (
            f"Only {found.pairs} of {found.of} validation pairs could be matched within seconds on this machine's CPU, "
            "so the winner's decodings and its hardest pairs are left out; --evaluate matches all."
        )
    some = f"{found.pairs} validation pairs" if found.pairs == found.of else f"{found.pairs} of {found.of} pairs"
    plot = winner_plots.decodings(gallery, found.accuracy, f"of trial {best.id} on {some}")
    pictures = []
    for earlier in gallery.folder.glob("hard_pair_*.png"):
        earlier.unlink(missing_ok=True)
    for k, pair in enumerate(found.hardest, start=1):
        address = _picture(pair.picture_HW3, gallery.folder / f"hard_pair_{k}.png")
        pictures.append(Picture(address=address, category=pair.category, right=pair.right, known=pair.known))
    return Winner(pairs=found.pairs, of=found.of, decodings=plot, hardest=tuple(pictures))


def _decode(metrics: dict[str, object]) -> dict[str, object]:
    """Return the decoding of the best epoch as configuration keys."""
    return {f"decode.{name}": value for name, value in decoding_of(metrics).items()}


def _grid(summary: Summary, directory: Path) -> Sequence[DecodeConfig]:
    """Return the decodings of the map: those of the search, with a usual range of what it did not search."""
    assert summary.best is not None
    own = from_dict(summary.best.configuration, source=f"trial {summary.best.id}").decode
    tried: Sequence[DecodeConfig] = ()
    if any(is_swept(key, summary) for key in summary.space):
        try:
            tried = space_of(directory).decode_grid()
        except UserError:  # the file of the search is lost: the usual range serves
            tried = ()

    def values(name: str, usual: Sequence[Any]) -> list[Any]:
        searched = f"decode.{name}" in summary.space and tried
        return list(dict.fromkeys([getattr(d, name) for d in tried] if searched else [*usual, getattr(own, name)]))

    ranges = {"sinkhorn_iterations": values("sinkhorn_iterations", ITERATIONS), "epsilon": values("epsilon", EPSILONS)}
    ranges["assignment"] = values("assignment", ())
    return [
        dataclasses.replace(own, **dict(zip(ranges, chosen, strict=True)))
        for chosen in itertools.product(*ranges.values())
    ]


def _picture(image_HW3: np.ndarray, path: Path) -> str:
    """Write the picture as PNG, and return it embedded as JPEG, which is smaller."""
    from PIL import Image

    image, jpeg = Image.fromarray(image_HW3), io.BytesIO()
    with atomic_write(path) as file:
        image.save(file, "PNG")
    image.save(jpeg, "JPEG", quality=85)
    return embedded(jpeg.getvalue(), "jpeg")

"""Pictures of matched pairs: the two images side by side in their own proportions, and a line for each match.

Where the truth is known, a right match is green and a wrong one red. Elsewhere the colour says how confident it is.
A keypoint without a match is a hollow circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nmt.inference.labels import place_labels

if TYPE_CHECKING:
    from PIL import ImageDraw

Colour = tuple[int, int, int]

RIGHT, WRONG, UNKNOWN = (46, 204, 64), (255, 65, 54), (0, 190, 255)
RAMP: tuple[Colour, ...] = ((232, 62, 140), (255, 193, 7), (0, 200, 255))
"""colours of confidence 0, 1/2 and 1; they differ in brightness too, and are told apart without red and green"""
HOLLOW, TEXT, GROUND = (255, 255, 255), (235, 235, 235), (24, 24, 27)
GAP, LABEL, LEGEND = 6, 18, 18
"""pixels between the images, of the caption above them, and of the legend below them"""
FINE = 3
"""lines are drawn so many times larger, then reduced, which smooths them"""
NAMES_FROM = 224
"""side of the images from which on the names of keypoints are drawn"""


@dataclass(frozen=True)
class MatchedPair:
    """Two images of any proportions and the matches between them. Points are pixels (x, y) of their image."""

    image0_HW3: np.ndarray
    image1_HW3: np.ndarray
    points0_N2: np.ndarray
    points1_M2: np.ndarray
    predicted_N: np.ndarray
    """index of the matched target point, -1 = none"""
    match_N: np.ndarray | None
    """the truth, -1 = none; None where it is not known"""
    label: str
    names0: Sequence[str] | None = None
    names1: Sequence[str] | None = None
    confidence_N: np.ndarray | None = None
    """in [0, 1], of each match; None where it is not known"""
    score: str = "confidence"
    """what the legend calls it"""


def draw_pair(pair: MatchedPair, *, side: int = 256, legend: bool = True) -> np.ndarray:
    """Draw the two images side by side, with a line for each match.

    Args:
        side: pixels of the square that each image is fitted into, in its own proportions.
        legend: explain the colours in a line below the images.

    Returns:
        (height, width, 3) uint8; the width is that of both images and the gap, the height that of the higher one, the
        caption and the legend.
    """
    from PIL import Image, ImageDraw

    size0, size1 = (_fitted(image, side) for image in (pair.image0_HW3, pair.image1_HW3))
    width, bottom = size0[0] + GAP + size1[0], LABEL + max(size0[1], size1[1])
    canvas = Image.new("RGB", (width, bottom + (LEGEND if legend else 0)), GROUND)
    boxes = [(0, LABEL, *size0), (size0[0] + GAP, LABEL, *size1)]
    for (x, y, *size), image in zip(boxes, (pair.image0_HW3, pair.image1_HW3), strict=True):
        canvas.paste(Image.fromarray(image).resize((size[0], size[1]), Image.Resampling.BILINEAR), (x, y))
    points0 = pair.points0_N2 * _scale(pair.image0_HW3, size0) + boxes[0][:2]
    points1 = pair.points1_M2 * _scale(pair.image1_HW3, size1) + boxes[1][:2]
    lines = Image.new("RGBA", (canvas.width * FINE, canvas.height * FINE), (0, 0, 0, 0))
    _draw_lines(ImageDraw.Draw(lines), pair, points0 * FINE, points1 * FINE, max(2.5, side / 110) * FINE)
    fine = lines.resize(canvas.size, Image.Resampling.BOX)
    canvas.paste(fine.convert("RGB"), mask=fine.getchannel("A"))
    draw = ImageDraw.Draw(canvas)
    if side >= NAMES_FROM:
        radius = max(2.5, side / 110)
        for points, names, box in ((points0, pair.names0, boxes[0]), (points1, pair.names1, boxes[1])):
            if names is not None:
                _draw_names(draw, points, names, box, radius=radius, size=10 if side < 320 else 11)
    draw.text((4, 3), _caption(pair), fill=TEXT)
    if legend:
        _draw_legend(draw, pair, bottom, width)
    return np.asarray(canvas)


def colour_of(confidence: float) -> Colour:
    """Return the colour of a confidence in [0, 1]."""
    place = min(max(confidence, 0.0), 1.0) * (len(RAMP) - 1)
    first = min(int(place), len(RAMP) - 2)
    low, high, share = RAMP[first], RAMP[first + 1], place - first
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _colours(pair: MatchedPair) -> list[Colour]:
    """Return the colour of each source point's match."""
    if pair.match_N is not None:
        return [RIGHT if right else WRONG for right in (pair.match_N == pair.predicted_N).tolist()]
    if pair.confidence_N is None:
        return [UNKNOWN] * len(pair.predicted_N)
    return [colour_of(value) for value in pair.confidence_N.tolist()]


def _opacity(pair: MatchedPair, n: int) -> int:
    """Return how opaque a match's line is: a right or wrong one shows its confidence so."""
    faint = pair.match_N is not None and pair.confidence_N is not None
    return 90 + round(165 * float(pair.confidence_N[n])) if faint and pair.confidence_N is not None else 255


def _draw_lines(
    draw: ImageDraw.ImageDraw, pair: MatchedPair, points0: np.ndarray, points1: np.ndarray, radius: float
) -> None:
    """Draw a line for each match, then a disc at each matched point and a ring at the others."""
    colours, targets = _colours(pair), pair.predicted_N.tolist()
    for n, target in enumerate(targets):
        if target >= 0:
            ends = [tuple(points0[n]), tuple(points1[target])]
            draw.line(ends, fill=(0, 0, 0, 110), width=round(radius * 1.1))
            draw.line(ends, fill=(*colours[n], _opacity(pair, n)), width=round(radius * 0.6))
    taken = {target: colours[n] for n, target in enumerate(targets) if target >= 0}
    discs = [(points0[n], colours[n] if target >= 0 else None) for n, target in enumerate(targets)]
    discs += [(point, taken.get(m)) for m, point in enumerate(points1)]
    for (x, y), colour in discs:
        outer = [x - radius - FINE, y - radius - FINE, x + radius + FINE, y + radius + FINE]
        if colour is None:
            wide = [x - radius - 2 * FINE, y - radius - 2 * FINE, x + radius + 2 * FINE, y + radius + 2 * FINE]
            draw.ellipse(wide, outline=(0, 0, 0, 255), width=2 * FINE)
            draw.ellipse(outer, outline=(*HOLLOW, 255), width=round(1.4 * FINE))
        else:
            draw.ellipse(outer, fill=(0, 0, 0, 255))
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(*colour, 255))


def _draw_names(
    draw: ImageDraw.ImageDraw,
    points: np.ndarray,
    names: Sequence[str],
    box: tuple[int, int, int, int],
    *,
    radius: float,
    size: int,
) -> None:
    """Draw names beside their points, on dark ground; one that finds no room is left out."""
    from PIL import ImageFont

    font: Any = ImageFont.load_default(size)
    texts = [name if len(name) <= 16 else f"{name[:15]}…" for name in names]
    sizes = [(draw.textlength(text, font=font) + 4, float(size + 2)) for text in texts]
    for text, place in zip(texts, place_labels(points, sizes, box, gap=radius + 2), strict=True):
        if place is not None:
            x0, y0, x1, y1 = place
            draw.rectangle([x0, y0, x1 - 1, y1 - 1], fill=GROUND)
            draw.text((x0 + 2, (y0 + y1) / 2), text, fill=TEXT, font=font, anchor="lm")


def _draw_legend(draw: ImageDraw.ImageDraw, pair: MatchedPair, top: int, width: int) -> None:
    """Explain the colours that the picture has."""
    x, middle = 6.0, top + LEGEND / 2

    def word(text: str) -> None:
        nonlocal x
        draw.text((x, middle), text, fill=TEXT, anchor="lm")
        x += draw.textlength(text) + 10

    if pair.match_N is not None:
        for colour, text in ((RIGHT, "right"), (WRONG, "wrong")):
            draw.ellipse([x, middle - 3, x + 6, middle + 3], fill=colour)
            x += 10
            word(text)
        if pair.confidence_N is not None:
            word(f"(fainter: less {pair.score})")
    elif pair.confidence_N is not None:
        word(f"{pair.score} 0")
        for step in range(48):
            draw.line([(x - 6 + step, middle - 4), (x - 6 + step, middle + 4)], fill=colour_of(step / 47))
        x += 46
        word("1")
    targets = pair.predicted_N[pair.predicted_N >= 0]
    if len(targets) < len(pair.predicted_N) or len(set(targets.tolist())) < len(pair.points1_M2):
        draw.ellipse([x, middle - 3, x + 6, middle + 3], outline=HOLLOW)
        x += 10
        word("no match")


def _fitted(image_HW3: np.ndarray, side: int) -> tuple[int, int]:
    """Width and height of the image, scaled so that its longer side is `side`."""
    height, width = image_HW3.shape[:2]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scale(image_HW3: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """Factors (x, y) from pixels of the image to pixels of the picture."""
    return size[0] / image_HW3.shape[1], size[1] / image_HW3.shape[0]


def _caption(pair: MatchedPair) -> str:
    if pair.match_N is None:
        return pair.label
    known = pair.match_N >= 0
    return f"{pair.label}  {int((pair.predicted_N == pair.match_N)[known].sum())} of {int(known.sum())} right"


def draw_sheet(pairs: Sequence[MatchedPair], *, columns: int = 2, side: int = 256) -> np.ndarray:
    """Draw pairs of square images on one sheet, row by row; uint8."""
    tiles = [draw_pair(pair, side=side, legend=False) for pair in pairs]
    while len(tiles) % columns:
        tiles.append(np.full_like(tiles[0], 24))
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)

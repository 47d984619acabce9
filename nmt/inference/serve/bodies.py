"""Read the bodies of requests: never more than a limit, and only what they should hold."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

import numpy as np
from starlette.requests import Request

from nmt.errors import UserError, one_line
from nmt.inference.inputs import MIN_KEYPOINTS
from nmt.inference.serve.pictures import Picture, Pictures
from nmt.io.user_files import shown

MAX_JSON, MAX_KEYPOINT_FILE, MAX_UPLOAD = 1 << 18, 1 << 20, 48 << 20
"""bytes of a body: a request to match, a keypoint file, a picture"""
MAX_POINTS = 200
"""keypoints of a picture"""
SECONDS = 120.0
"""for a body to arrive"""


class TooLargeError(UserError):
    """A body of more bytes than are read."""


class TooSlowError(UserError):
    """A body that does not arrive."""


async def read_body(request: Request, *, most: int, what: str) -> bytes:
    """Read a body, and stop at its first byte too many.

    Args:
        most: bytes that are read.
        what: what it is, for messages.

    Raises:
        TooLargeError: the request announces more, or sends more.
        TooSlowError: it is not there after SECONDS.
    """
    too_large = TooLargeError(f"{what}: more than {most / 2**20:g} MB; send a smaller one")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > most:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise TooSlowError(f"{what}: not here after {SECONDS:.0f} s; send it again") from None
    return b"".join(parts)


def file_name(request: Request, default: str) -> str:
    """Return the name that the page gives a file, without folders; it is only shown and compared."""
    given = request.query_params.get("name", "").replace("\\", "/")
    name = PurePosixPath("".join(c for c in given if c.isprintable())).name
    return name[-150:] if name not in ("", "..") else default


@dataclass(frozen=True)
class MatchRequest:
    """The two pictures to match, source first, and their points as pixels (x, y) of the pictures."""

    pictures: tuple[Picture, Picture]
    points_N2: tuple[np.ndarray, np.ndarray]


def parse_match(body: bytes, pictures: Pictures) -> MatchRequest:
    """Parse {"source": {"picture": ID, "points": [[x, y], ...]}, "target": {...}}.

    Raises:
        UserError: not JSON, another shape, too few or too many points, or one outside its picture.
    """
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the request is not readable JSON ({one_line(error)})") from error
    sides = [_side(content, side, pictures) for side in ("source", "target")]
    return MatchRequest((sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def _side(content: Any, side: str, pictures: Pictures) -> tuple[Picture, np.ndarray]:
    given = content.get(side) if isinstance(content, dict) else None
    if not isinstance(given, dict) or not isinstance(given.get("picture"), str):
        raise UserError(f'{side}: expected {{"picture": ID, "points": [[x, y], ...]}}')
    points = given.get("points")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        raise UserError(f"{side}: points must be a list of [x, y], finite numbers")
    if not MIN_KEYPOINTS <= len(points) <= MAX_POINTS:
        raise UserError(f"{side}: {len(points)} keypoints; a match takes {MIN_KEYPOINTS} to {MAX_POINTS} of a picture")
    picture = pictures.get(given["picture"])
    for x, y in points:
        if not (0 <= x <= picture.width and 0 <= y <= picture.height):
            where = shown((x, y))
            raise UserError(f"{side}: {where} lies outside the picture of {picture.width} x {picture.height} pixels")
    return picture, np.array(points, np.float64)


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(map(_is_finite, point))


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False

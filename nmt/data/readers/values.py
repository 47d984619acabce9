"""Check the values that an annotation holds: numbers, names, lists, objects. Errors name the file and the field."""

from __future__ import annotations

import re
from typing import Any

from nmt.errors import UserError
from nmt.io.user_files import same_text, shown

_PLAIN_NAME = re.compile(r"[^/\\\0]+")


def as_number(value: object, where: str) -> float:
    """Convert a value of an annotation to a number; NaN and infinity are allowed.

    Args:
        value: what the annotation holds.
        where: file and field, which the message begins with.

    Raises:
        UserError: not a number.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        if isinstance(value, str) and "_" in value:  # Python reads 1_0 as 10
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise UserError(f"{where} must be a number, but is {shown(value)}") from None


def as_name(value: object, where: str) -> str:
    """Check a file's or category's name in an annotation: not empty, and no path. Raises UserError with `where`."""
    if not isinstance(value, str) or not _PLAIN_NAME.fullmatch(value) or value in (".", ".."):
        raise UserError(f"{where} must be a name without / and \\, but is {shown(value)}")
    return value


def as_label(value: object, where: str, *, slashes: bool = False) -> str:
    """Check the name of a category or a keypoint, and return it composed (NFC), so that equal letters are equal names.

    Args:
        value: what the annotation holds.
        where: file and field, which the message begins with.
        slashes: the name may hold / and \\; a category's name is a part of object ids, where they separate.

    Raises:
        UserError: no name, or one with a character that cannot be printed, such as a no-break space.
    """
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where} needs a name, but is {shown(value)}")
    for character in value:
        if not character.isprintable():
            code = f"U+{ord(character):04X}"
            raise UserError(
                f"{where}: {shown(value)} has a character that cannot be printed ({code}); write it with plain letters"
            )
    return same_text(value if slashes else as_name(value, where)).strip()


def as_dict(value: object, where: str) -> dict[str, Any]:
    """Check that a value is a JSON object. Raises UserError with `where`."""
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object, but is {shown(value)}")
    return value


def as_list(value: object, where: str, *, length: int | None = None) -> list[Any]:
    """Check that a value is a JSON list, of `length` items unless None. Raises UserError with `where`."""
    if not isinstance(value, list) or length not in (None, len(value)):
        items = "" if length is None else f" of {length}"
        raise UserError(f"{where} must be a list{items}, but is {shown(value)}")
    return value


def as_point(value: object, where: str) -> tuple[float, float]:
    """Convert a JSON list of two numbers to a point. Raises UserError with `where`."""
    x, y = as_list(value, where, length=2)
    return as_number(x, where), as_number(y, where)


def as_size(width: object, height: object) -> tuple[int, int] | None:
    """Read the width and height of an annotated image, pixels; None where they are missing or impossible.

    Some tools write 640.0 or "640".
    """
    sides = _side(width), _side(height)
    return None if None in sides else sides  # type: ignore[return-value]


def _side(value: object) -> int | None:
    # JSON's true is an int to isinstance.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        side = float(value)
    except (ValueError, OverflowError):
        return None
    return int(side) if side >= 1 and side.is_integer() else None

"""What `decode.unmatched` may say: which matches are left out for their confidence. Imports nothing heavy."""

from __future__ import annotations

import math
from typing import Any

from nmt.settings import Text

OFF = "off"
"""keep every match, as published"""
F1 = "f1"
"""the threshold of highest F1 on the validation pairs"""
ALLOWED = "off, f1, precision=P or a confidence, with P and the confidence between 0 and 1"


def parse_unmatched(text: str) -> tuple[str, float]:
    """Split a value of `decode.unmatched`.

    Returns:
        ("off", 0), ("f1", 0), ("precision", P), or ("value", lowest confidence).

    Raises:
        ValueError: it is something else.
    """
    if text in (OFF, F1):
        return text, 0.0
    kind, equals, number = text.rpartition("=")
    value = float(number)
    if (equals and kind != "precision") or not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"expected {ALLOWED}, but got {text!r}")
    return "precision" if equals else "value", value


def checked_unmatched(value: Any) -> str | None:
    """Return a value of `decode.unmatched` as text, a number too; None if it is not allowed."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    try:
        parse_unmatched(text)
    except ValueError:
        return None
    return text


UNMATCHED = Text(ALLOWED, checked_unmatched)

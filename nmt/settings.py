"""One setting of a configuration: its meaning, type and range, and the check of a value; and how values differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nmt.errors import UserError, nearest


@dataclass(frozen=True)
class Text:
    """The values of a setting that no type and range describes."""

    allowed: str
    """what is allowed, in words"""
    read: Callable[[Any], str | int | None]
    """returns a value as it is kept; None if it is not allowed"""


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
    inference: bool = False,
    text: Text | None = None,
) -> Any:
    """A dataclass field with its meaning and allowed range (`low`/`high` inclusive, `above` exclusive)."""
    return field(
        default=default,
        metadata={
            "doc": doc,
            "low": low,
            "high": high,
            "above": above,
            "choices": choices,
            "inference": inference,
            "text": text,
        },
    )


@dataclass(frozen=True)
class Setting:
    """The type, default, range and meaning of one configuration key."""

    key: str
    type: type
    """int, float, bool, str or tuple (of int; of str where there are choices or the default holds some)"""
    default: Any
    doc: str
    low: float | None
    high: float | None
    above: float | None
    choices: tuple[str, ...] | None
    inference: bool
    """True if the key is read at inference only, so that another value costs no training"""
    text: Text | None = None

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error messages and --help."""
        if self.text is not None:
            return self.text.allowed
        if self.choices:
            return ("a list of " if self.type is tuple else "one of ") + ", ".join(self.choices)
        kind = {
            int: "an integer",
            float: "a number",
            bool: "true or false",
            str: "a string",
            tuple: "a list of names" if self.of_names else "a list of integers",
        }[self.type]
        bounds = [f"above {self.above:g}"] if self.above is not None else []
        bounds += [f"at least {self.low:g}"] if self.low is not None else []
        bounds += [f"at most {self.high:g}"] if self.high is not None else []
        return " ".join([kind, " and ".join(bounds)]).strip()

    @property
    def of_names(self) -> bool:
        """True if the entries of a tuple are strings."""
        return bool(self.choices) or (self.type is tuple and any(isinstance(v, str) for v in self.default or ()))

    def check(self, value: Any, *, source: str) -> Any:
        """The value in its exact type. Raises UserError naming `source`, the key, the value and what is allowed."""
        checked = self._convert(value)
        values = checked if self.type is tuple else (checked,)
        if checked is None or not all(self._in_range(v) for v in values):
            shown = json.dumps(value) if isinstance(value, str | int | float | list) else repr(value)
            raise UserError(f"{source}: {self.key} must be {self.allowed}, but got {shown}")
        return checked

    def _convert(self, value: Any) -> Any:
        if self.text is not None:
            return self.text.read(value)
        if self.type is tuple:
            entry = str if self.of_names else int
            whole = isinstance(value, list | tuple) and all(type(v) is entry for v in value)
            return tuple(value) if whole else None
        if self.type is float and type(value) is int:
            return float(value)
        if self.type is int and type(value) is float and value.is_integer():
            return int(value)
        return value if type(value) is self.type else None

    def _in_range(self, value: Any) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )


def check_names(given: Iterable[str], known: Iterable[str], *, source: str) -> None:
    """Raise UserError with the nearest known name if one of the given names is not known."""
    names = list(known)
    for name in given:
        if name not in names:
            raise UserError(f"{source}: unknown key {name!r}; {nearest(name, names)}")


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return how two flat configurations differ, in words for an error message; "" where they are equal.

    The first difference is spelt out, the others are counted.

    Args:
        there: dotted key -> value, of what was found.
        here: the same, of what was asked for.
    """
    keys = sorted(k for k in there.keys() | here.keys() if (k in there, there.get(k)) != (k in here, here.get(k)))
    if not keys:
        return ""

    def shown(entries: Mapping[str, Any]) -> str:
        return json.dumps(entries[keys[0]]) if keys[0] in entries else "not there"

    more = f", and {len(keys) - 1} more differ" if len(keys) > 1 else ""
    return f"{keys[0]} is {shown(there)} in it and {shown(here)} now{more}"

"""How often the results of a confirmation were looked at, and how sure its intervals have to be each time.

Whoever adds seeds until a winner appears finds one by chance sooner or later. So each look spends half of what is left
of the 5 % of false winners: 2.5 % at the first, 1.25 % at the second, and so on. The sum stays below 5 % over any
number of looks. Only an interval above 0 names a winner, which is one of two sides: so the intervals hold with 95 %,
97.5 %, 98.75 %.

A look is a set of seeds and configurations whose trainings have all ended. The same set again, after a crash or for
the test split, is the same look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FALSE_WINNERS = 0.05
"""largest probability that a confirmation of equal configurations names a winner, over all its looks"""
SEEDS = 5
"""trainings of each configuration, by default"""
MIN_SEEDS = 3
"""fewest trainings of each configuration that a winner can be named from"""


@dataclass(frozen=True)
class Look:
    """What a look compared."""

    seeds: tuple[int, ...]
    candidates: tuple[str, ...]
    """names of the configurations beside the default"""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def look_at(seeds: Sequence[int], candidates: Sequence[str]) -> Look:
    """Return a look; the order of seeds and configurations makes no difference."""
    return Look(tuple(sorted(seeds)), tuple(sorted(candidates)))


def look_from_dict(content: Mapping[str, Any]) -> Look:
    """Decode what `Look.to_dict` returned. Raises KeyError or TypeError if it is something else."""
    return look_at(content["seeds"], content["candidates"])


def with_look(looks: Sequence[Look], now: Look) -> tuple[Look, ...]:
    """Return the looks with `now`, at its place if it was there before."""
    return (*looks, now) if now not in looks else tuple(looks)


def number_of(looks: Sequence[Look], now: Look) -> int:
    """Return the number of the look `now`, from 1; a new one is the next."""
    return with_look(looks, now).index(now) + 1


def confidence_at(number: int) -> float:
    """Return the confidence of all intervals together at a look: 0.95 at the first, 0.975 at the second."""
    return 1 - FALSE_WINNERS / 2.0 ** (number - 1)

"""TODO docstring of tune.spaces.stages."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence

from nmt.config import with_overrides

if typing.TYPE_CHECKING:
    from tune.spaces.space import Space

from tune.spaces.fidelity import HIGH, LOW, Promoted


def exploration(space: Space) -> Space:
    """The first stage: the whole budget, on features, with what the file's [features] changes."""
    base = with_overrides(space.base, {"data.mode": LOW, **space.features}, source="[features]")
    return dataclasses.replace(space, name=LOW, base=base, fidelity=(), features={})


def final(space: Space, chosen: Sequence[Promoted]) -> Space:
    """The second stage: the default configuration and the chosen ones, on images, stopped early as any.

    The limits of [search] are the exploration's; this stage costs at most the epochs of these trials.
    """
    search = dataclasses.replace(
        space.search, trials=len(chosen) + 1, epochs=0, hours=0.0, gpu_hours=0.0, patience=0, warm_start=""
    )
    base = with_overrides(space.base, {"data.mode": HIGH}, source="fidelity")
    return dataclasses.replace(
        space, name=HIGH, base=base, fidelity=(), features={}, given=tuple(chosen), search=search
    )


def parts(space: Space) -> tuple[Space, ...]:
    """The searches it consists of."""
    return (exploration(space), final(space, ())) if space.fidelity else (space,)

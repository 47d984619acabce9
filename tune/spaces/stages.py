"""The two searches that a search of two fidelities consists of."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence

from nmt.config import with_overrides

if typing.TYPE_CHECKING:
    from tune.spaces.space import Space

from tune.spaces.fidelity import HIGH, LOW, Promoted


def exploration(space: Space) -> Space:
    """Return the first stage: the whole budget, on features, with the changes of the file's [features]."""
    base = with_overrides(space.base, {"data.mode": LOW, **space.features}, source="[features]")
    search = dataclasses.replace(space.search, reselect=0)  # the winner is named by the second stage
    return dataclasses.replace(space, name=LOW, base=base, fidelity=(), features={}, search=search)


def final(space: Space, chosen: Sequence[Promoted]) -> Space:
    """Return the second stage: the default configuration and the chosen ones, on images, with early stopping.

    The limits of [search] belong to the exploration. This stage costs at most the epochs of its trials.
    """
    search = dataclasses.replace(
        space.search, trials=len(chosen) + 1, epochs=0, hours=0.0, gpu_hours=0.0, patience=0, warm_start=""
    )
    base = with_overrides(space.base, {"data.mode": HIGH}, source="fidelity")
    return dataclasses.replace(
        space, name=HIGH, base=base, fidelity=(), features={}, given=tuple(chosen), search=search
    )


def parts(space: Space) -> tuple[Space, ...]:
    """List the searches that a search consists of: two stages, or itself."""
    return (exploration(space), final(space, ())) if space.fidelity else (space,)

"""How many trials of a search train packed in one process (`[resources] packed`)."""

from __future__ import annotations

import typing

from nmt.errors import UserError
from nmt.training.packable import check_packable, is_shared
from tune.spaces.fidelity import LOW
from tune.spaces.settings import AUTO

if typing.TYPE_CHECKING:
    from tune.spaces.space import Space

OF_A_GPU = 16
"""trials on one GPU at once with packed = "auto", over all packs that share it"""


def pack_size(space: Space) -> int:
    """Return the most trials that one process trains together; 1 if each trains alone.

    With "auto" that is more than 1 only where a pack pays: on a GPU, for heads on features. A small head leaves most of
    a GPU idle, while a processor is busy with one already. It is 1 too where a rule of packs forbids them.
    """
    packed = space.resources.packed
    if space.base.data.mode != LOW:
        return 1
    if isinstance(packed, int):
        return packed
    size = int(OF_A_GPU * min(space.resources.gpus, 1.0))
    return max(size, 1) if _obstacle(space) is None else 1


def check_packs(space: Space, source: str) -> None:
    """Check that the trials of a search can train packed, where it asks for a number of them. Raises UserError."""
    packed = space.resources.packed
    if packed in (1, AUTO):
        return
    obstacle = _obstacle(space)
    if obstacle is not None:
        raise UserError(f"{source}: [resources] packed = {packed}{obstacle}")


def _obstacle(space: Space) -> str | None:
    """Say why no trials of the search can train packed; None if they can.

    Packed trials are heads on features, in one process, that no scheduler stops in mid-job.
    """
    if space.resources.workers > 1:
        return f" trains in one process: workers must be 1, but is {space.resources.workers}"
    if space.search.scheduler not in ("asha", "hyperband", "fifo"):
        return f' needs scheduler "asha", "hyperband" or "fifo", but got "{space.search.scheduler}"'
    for name in ("inference_seconds", "val/f1"):
        if name in space.search.objectives:
            return f" measures no trial's own {name}: packed must be 1 for that objective"
    for parameter in space.parameters:
        own = [c.key for c in parameter.when if not is_shared(c.key, space.base)]
        if is_shared(parameter.key, space.base) and own:
            return (
                f": packed trials share {parameter.key}, but its condition reads {own[0]}, in which they "
                f"differ; search it without the condition, or set packed = 1"
            )
    try:
        check_packable([space.base])
    except UserError as error:
        return f": {error}"
    return None

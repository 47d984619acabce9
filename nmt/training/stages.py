"""The stages of a training step, told to whoever measures it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from nmt.training.trainer import Trainer

COPY, BACKBONE, HEAD, LOSS = "copy to device", "backbone forward", "head forward", "loss"
BACKWARD, OPTIMIZER, CONSTRAINTS, AVERAGE = "backward", "optimizer", "constraints", "average"
STAGES = (COPY, BACKBONE, HEAD, LOSS, BACKWARD, OPTIMIZER, CONSTRAINTS, AVERAGE)
"""in the order of a step; of a step in parts, the first five come once a part"""


@contextlib.contextmanager
def stages(trainer: Trainer, begins: Callable[[str], None]) -> Iterator[None]:
    """Call `begins` with the name of each stage as it begins, in the steps that `trainer` takes in this context.

    The parts of a compiled model cannot be told apart.
    """
    matcher: Any = trainer.matcher

    def before(owner: Any, name: str, stage: str, then: str | None = None) -> None:
        """Let a method of an object or class say that a stage begins."""
        method = getattr(owner, name)

        def told(*args: Any, **kwargs: Any) -> Any:
            begins(stage)
            result = method(*args, **kwargs)
            if then is not None:
                begins(then)
            return result

        own = name in vars(owner)
        stack.callback(setattr, owner, name, method) if own else stack.callback(delattr, owner, name)
        setattr(owner, name, told)

    with contextlib.ExitStack() as stack:
        if matcher.backbone is not None:
            before(matcher.backbone, "forward", BACKBONE)
        before(matcher.head, "forward", HEAD, then=LOSS)
        before(Tensor, "backward", BACKWARD, then=OPTIMIZER)
        before(matcher.head, "enforce_constraints", CONSTRAINTS)
        before(trainer, "update_average", AVERAGE)
        yield

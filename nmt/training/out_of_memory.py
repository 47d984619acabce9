"""Out of memory: the same training again with half the pairs a forward takes, once; the result stays the same."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

from nmt.config import Config, with_overrides
from nmt.errors import UserError

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation of torch failed, on a GPU or, where the system says so, on the CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def halved(config: Config, *, workers: int = 1) -> Config | None:
    """With half the micro-batch in force on the fullest of the workers; None where that is one pair already."""
    pairs = pairs_at_once(config, workers=workers)
    if pairs == 1:
        return None
    return with_overrides(config, {"train.micro_batch": (pairs + 1) // 2}, source="out of memory")


def pairs_at_once(config: Config, *, workers: int = 1) -> int:
    """Pairs a forward takes on the fullest of the workers."""
    share = -(-config.data.pairs_per_step // workers)
    return min(config.train.micro_batch or share, share)


def out_of_memory(config: Config, *, workers: int = 1) -> UserError:
    """The error of a training for which there is no more to be done here: what to change."""
    pairs = pairs_at_once(config, workers=workers)
    smaller = "choose a smaller model or data.image_size, or train.precision = bf16"
    if pairs == 1:
        return UserError(f"out of memory with one pair at a time: {smaller}")
    return UserError(
        f"out of memory, again with {pairs} pairs at a time: set train.micro_batch to {pairs // 2} or less "
        f"(the result is the same) and --resume, or {smaller}"
    )


def twice_within_memory(train: Callable[[Config, bool], T], config: Config) -> T:
    """`train(config, False)`; where it runs out of memory, once more as `train(config with half the parts, True)`.

    Raises UserError with what to change where that does not fit either.
    """
    try:
        return train(config, False)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Out here, where the error is gone, and with it the frames that hold the tensors of the step that failed.
    smaller = halved(config)
    if smaller is None:
        raise out_of_memory(config)
    give_back_memory()
    try:
        return train(smaller, True)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(smaller) from None


def give_back_memory() -> None:
    """What this process no longer uses, back to the GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Recovery from running out of memory: train again, once, with half as many pairs per forward pass.

Gradients of the parts of a step add up (`train.micro_batch`), so the result stays the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

from nmt.config import Config, with_overrides
from nmt.errors import TemporaryError

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for a failed allocation of torch, on a GPU or on the CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def halved(config: Config, *, workers: int = 1) -> Config | None:
    """Halve the micro-batch of a configuration.

    Args:
        config: the configuration that ran out of memory.
        workers: number of data-parallel workers.

    Returns:
        The configuration with half as many pairs per forward pass; None when a pass has a single pair already.
    """
    pairs = pairs_at_once(config, workers=workers)
    if pairs == 1:
        return None
    return with_overrides(config, {"train.micro_batch": half(pairs)}, source="out of memory")


def half(pairs: int) -> int:
    """Return half as many pairs, rounded up."""
    return (pairs + 1) // 2


def pairs_at_once(config: Config, *, workers: int = 1) -> int:
    """Return the largest number of pairs per forward pass on any of the workers."""
    share = -(-config.data.pairs_per_step // workers)  # rounded up
    return min(config.train.micro_batch or share, share)


def out_of_memory(config: Config, *, workers: int = 1) -> TemporaryError:
    """Make the error of a training that ran out of memory for good; it names what to change."""
    pairs = pairs_at_once(config, workers=workers)
    smaller = "choose a smaller model or data.image_size, or train.precision = bf16"
    if pairs == 1:
        return TemporaryError(f"out of memory with one pair per forward pass: {smaller}")
    return TemporaryError(
        f"out of memory again, with {pairs} pairs per forward pass: set train.micro_batch to {pairs // 2} or less "
        f"(the result is the same) and --resume, or {smaller}"
    )


def twice_within_memory(train: Callable[[Config, bool], T], config: Config) -> T:
    """Train, and train again with half the micro-batch if the first try runs out of memory.

    Args:
        train: function of a configuration and of whether it resumes the first try.
        config: the configuration.

    Returns:
        The result of `train`.

    Raises:
        TemporaryError: the second try ran out of memory too.
    """
    try:
        return train(config, False)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside the except block, for the exception keeps the frames alive that hold the failed step's tensors.
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
    """Free the GPU memory that torch holds but this process no longer uses."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

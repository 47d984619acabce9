"""Modules without initial weights, for those whose weights come from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.Tensor.erfinv_,
    torch.Tensor.bernoulli_,
    torch.Tensor.exponential_,
}


class undrawn(TorchFunctionMode):
    """Context in which nothing is drawn at random: parameters keep what their memory holds until they are loaded.

    Drawing the initial weights of a large net takes seconds. (On torch's meta device, the first draw also imports
    torch's compiler, which takes one more.)
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor of a random draw unchanged, and call everything else."""
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))

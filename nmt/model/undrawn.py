"""Modules without initial weights, for those whose weights come from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_DRAWS = {
    *(torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_),
    # torch hands these over whole; what they call is then no longer seen.
    *(nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_),
    *(nn.init.xavier_uniform_, nn.init.xavier_normal_, nn.init.trunc_normal_),
}


class Undrawn(TorchFunctionMode):
    """Context in which nothing is drawn at random: parameters keep what their memory holds until they are loaded.

    Drawing the initial weights of a large net takes seconds. (On torch's meta device, the first draw also imports
    torch's compiler, which takes one more.)
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor of a random draw unchanged, and call everything else."""
        given = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)

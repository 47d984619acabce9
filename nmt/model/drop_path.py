"""Stochastic depth: residual branches that are left out for some images of a training batch.

timm's DropPath draws from the random state of the process. Here each image brings a number of its own, and its draws
are a hash of that number and of the branch. So the batch, its order, padding and the device change nothing. All is
integer arithmetic, which is exact on a CPU and a GPU alike. B: images.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_BRANCHES_AT_ONCE = 64
"""branches whose draws are made together; SwinV2-B has 46, the first block's two are never dropped"""


def branch_draws(draw_B: Tensor, branches: range) -> Tensor:
    """Hash the images' numbers with the numbers of branches (splitmix64).

    Args:
        draw_B: int64, one number per image.
        branches: K numbers of branches.

    Returns:
        (B, K) int64, uniform in [0, 2^32).
    """
    number_K = torch.arange(branches.start + 1, branches.stop + 1, device=draw_B.device)
    # The constants are those of splitmix64 as signed numbers. Products wrap at 64 bits.
    x_BK = draw_B[:, None] + number_K * -0x61C8864680B583EB
    x_BK = (x_BK ^ _shifted(x_BK, 30)) * -0x40A7B892E31B1A47
    x_BK = (x_BK ^ _shifted(x_BK, 27)) * -0x6B2FB644ECCEEE15
    return _shifted(x_BK ^ _shifted(x_BK, 31), 32)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift to the right with zeros from the left; torch repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class DropPath(nn.Module):
    """End of a residual branch: x or, for a dropped image, zero; kept images are scaled so that the mean stays.

    Outside `dropping` it changes nothing. Its forward reads no rate: the compiled form of a block serves all rates.

    Args:
        rate: probability that an image's branch is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.factors: Iterator[Tensor] | None = None
        """what its next branches are multiplied by, (B,) each: 0 for an image that drops the branch"""
        self.branches = 0
        """branches that end here in a pass of the net; known once the net has been tried out"""

    def forward(self, x: Tensor) -> Tensor:
        """Drop whole images of x (B, ...). Raises ValueError where its first dimension is not that of the images."""
        if self.factors is None:
            return x
        factor_B = next(self.factors)
        if len(x) != len(factor_B):
            raise ValueError(
                "model.drop_path cannot drop the branches of its blocks, which split an image; set it to 0"
            )
        return x * factor_B.to(x.dtype).view(-1, *[1] * (x.dim() - 1))

    def drop_by(self, draws: Iterator[Tensor]) -> None:
        """Take the factors of the branches from `draws`, which all modules of a net share."""
        self.branches = 0
        self.factors = self._taken_from(draws)

    def _taken_from(self, draws: Iterator[Tensor]) -> Iterator[Tensor]:
        for draw_B in draws:
            self.branches += 1
            yield (draw_B >= int(self.rate * 2**32)) / (1 - self.rate)


def replace_drop_paths(net: nn.Module) -> None:
    """Replace every DropPath of a timm net by one of this module with the same rate."""
    from timm.layers.drop import DropPath as TimmDropPath

    for name, module in [*net.named_modules()]:
        if isinstance(module, TimmDropPath):
            net.set_submodule(name, DropPath(module.drop_prob))


@contextlib.contextmanager
def dropping(net: nn.Module, draw_B: Tensor | None) -> Iterator[None]:
    """Drop branches in the net's forward pass inside this context, as the images' numbers say.

    Branches are numbered as they are computed, because some nets use one module for several branches.

    Args:
        net: net with the `DropPath` of this module.
        draw_B: int64, one number per image; None drops nothing.
    """
    drop_paths = [module for module in net.modules() if isinstance(module, DropPath)]
    draws = None if draw_B is None else _draws(draw_B)
    if draws is not None:
        for drop_path in drop_paths:
            drop_path.drop_by(draws)
    try:
        yield
    finally:
        for drop_path in drop_paths:
            drop_path.factors = None


def _draws(draw_B: Tensor) -> Iterator[Tensor]:
    for first in itertools.count(0, _BRANCHES_AT_ONCE):
        yield from branch_draws(draw_B, range(first, first + _BRANCHES_AT_ONCE)).unbind(1)

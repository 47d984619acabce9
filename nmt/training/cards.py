"""Named GPUs, and the time that a traced step takes on one.

The time is an estimate. Its assumptions: 80 % of the card's bandwidth and 50 % of its peak arithmetic are reached, and
an operation takes the longer of the two; a kernel takes at least 2 microseconds; the CPU needs 6 for each launch, side
by side with the GPU as long as nothing waits. Data are ready in time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmt.errors import UserError, nearest

if TYPE_CHECKING:  # the command line knows the cards without loading torch
    import torch

    from nmt.training.step_trace import Kernel

BANDWIDTH_SHARE, PEAK_SHARE = 0.8, 0.5
KERNEL_SECONDS, LAUNCH_SECONDS = 2e-6, 6e-6
CONTEXT = 0.6e9
"""bytes that CUDA and its libraries take of a card"""
SPARE = 0.08
"""share of a card's memory left for kernels' scratch memory and for gaps between tensors"""


@dataclass(frozen=True)
class Card:
    """A GPU, as its maker describes it."""

    name: str
    memory: float
    """bytes"""
    bandwidth: float = 0.0
    """bytes a second"""
    bf16: float = 0.0
    """operations a second of dense products, with float32 sums"""
    tf32: float = 0.0
    fp32: float = 0.0

    @property
    def usable(self) -> float:
        """Bytes that a training's tensors may take."""
        return (1 - SPARE) * self.memory - CONTEXT

    def peak(self, dtype: torch.dtype, *, tf32: bool) -> float:
        """Return the operations a second of products of a type."""
        if dtype.itemsize == 2:
            return self.bf16
        return self.tf32 if tf32 else self.fp32


def _card(name: str, gigabytes: int, terabytes: float, bf16: float, tf32: float, fp32: float) -> Card:
    return Card(name, gigabytes * 1e9, terabytes * 1e12, bf16 * 1e12, tf32 * 1e12, fp32 * 1e12)


CARDS = {
    "b200": _card("B200", 180, 8.0, 2250, 1125, 75),
    "h200": _card("H200", 141, 4.8, 989, 494, 67),
    "h100": _card("H100", 80, 3.35, 989, 494, 67),
    "a100-80": _card("A100 80 GB", 80, 2.04, 312, 156, 19.5),
    "a100-40": _card("A100 40 GB", 40, 1.56, 312, 156, 19.5),
    "l40s": _card("L40S", 48, 0.864, 362, 183, 91.6),
    "l4": _card("L4", 24, 0.3, 121, 60, 30.3),
    "a10g": _card("A10G", 24, 0.6, 70, 35, 31.5),
    "rtx4090": _card("RTX 4090", 24, 1.01, 165, 82.6, 82.6),
    "rtx3090": _card("RTX 3090", 24, 0.936, 71, 35.6, 35.6),
}
"""name on the command line -> card"""


def find_card(name: str) -> Card:
    """Return the card of a name. Raises UserError with the nearest name."""
    card = CARDS.get(name.lower())
    if card is None:
        raise UserError(f"--card {name}: not a known card; {nearest(name.lower(), CARDS)}")
    return card


def this_card() -> Card | None:
    """Return the GPU of this machine, by its name and memory alone; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Card(found.name, float(found.total_memory))


def gpu_seconds(kernels: Iterable[Kernel], card: Card, *, tf32: bool = False) -> float:
    """Estimate the time that kernels take on a GPU; with `tf32`, products of float32 numbers may round them."""
    total = 0.0
    for kernel in kernels:
        moving = kernel.bytes / (BANDWIDTH_SHARE * card.bandwidth)
        computing = kernel.flops / (PEAK_SHARE * card.peak(kernel.dtype, tf32=tf32))
        total += max(moving, computing, kernel.launches * KERNEL_SECONDS)
    return total


def host_seconds(kernels: Iterable[Kernel]) -> float:
    """Estimate the time that the CPU takes to launch kernels."""
    return LAUNCH_SECONDS * sum(kernel.launches for kernel in kernels)


def step_seconds(kernels: Iterable[Kernel], card: Card, *, tf32: bool = False) -> float:
    """Estimate the time of steps in a row: that of the GPU, or of the CPU where that is longer."""
    kernels = list(kernels)
    return max(gpu_seconds(kernels, card, tf32=tf32), host_seconds(kernels))

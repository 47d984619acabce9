"""The pixels that the cells of a feature map cover.

A map covers its image exactly where the image is a multiple of the net's stride. Elsewhere a ViT of patch 14 on 384
pixels leaves the last 6 out, and a net with padding SAME sees beyond the image on the left. At p / size, such a map is
read off place. So the cells are traced through the convolutions and poolings of the net.

At a multiple, cell i of stride s counts as the pixels s * i to s * (i + 1), whatever the padding. A convolution of 3
pixels and stride 2 is half a pixel off that. But trained weights make up for it, as images are mirrored in training:
efficientnet_lite0's cells are within 2 pixels of this grid, and 6 to 14 off the centres of its kernels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

_STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
"""modules that can change the size of a map; timm's variants with padding SAME are subclasses"""


class Area(NamedTuple):
    """The square of the image that a map covers, from `start` to `start` + `side` pixels, both ways.

    Its cells divide it evenly. It may begin before the image and end beyond it.
    """

    start: float
    side: float


class Cells(NamedTuple):
    """The cells of a level along one side of the image, pixels."""

    stride: int
    """side of a cell"""
    start: int
    """where the first cell begins"""


@contextlib.contextmanager
def tracing(net: nn.Module, image_size: int) -> Iterator[dict[int, Cells]]:
    """Record the cells of every level while the net computes an image inside this context.

    Args:
        net: the net.
        image_size: side of the image, pixels.

    Yields:
        Width of a level in cells -> its cells. Levels of equal width are one: that of the main path, or of a shortcut.
    """
    levels = {image_size: Cells(1, 0)}

    def record(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before, after = inputs[0].shape[-1], output.shape[-1]
        if before in levels and after not in levels:
            cells = levels[before]
            levels[after] = Cells(
                cells.stride * _one(module.stride), cells.start + cells.stride * _shift(module, before, after)
            )

    handles = [m.register_forward_hook(record) for m in net.modules() if isinstance(m, _STRIDED)]
    try:
        yield levels
    finally:
        for handle in handles:
            handle.remove()


def _shift(module: Any, before: int, after: int) -> int:
    """Compute by how many cells of its input a module's first cell is further right than at a multiple of its stride.

    Only padding SAME differs between sizes: it adds what the last cell lacks, the smaller half in front.
    """
    if isinstance(module.padding, str) or _one(module.padding):
        return 0
    size, stride = 1 + (_one(module.kernel_size) - 1) * _one(getattr(module, "dilation", 1)), _one(module.stride)
    missing = max(0, (after - 1) * stride + size - before)
    return max(0, size - stride) // 2 - missing // 2


def covered(levels: dict[int, Cells], width: int, image_size: int) -> Area:
    """Compute what a map covers: its own level's cells, or those of a finer level, merged two by two (Swin).

    A map of another kind covers the whole image.

    Args:
        levels: from `tracing`.
        width: of the map, in cells.
        image_size: side of the image, pixels.
    """
    finer = min((w for w in levels if w >= width), default=image_size)
    least, most, factor = finer, finer, 1
    while least > width:  # an odd cell at the end is left out by some nets, and filled up by others
        least, most, factor = least // 2, (most + 1) // 2, 2 * factor
    if finer not in levels or most < width:
        return Area(0, image_size)
    stride, start = levels[finer]
    return Area(start, stride * factor * width)


def _one(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]

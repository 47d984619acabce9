"""SwinV2's window attention in one fused kernel (Liu et al. 2022, arXiv 2111.09883, section 3).

timm writes the N x N matrix of every window and head several times: cosine, scale, bias, mask, softmax. At 384 pixels
these elementwise passes are the larger part of the memory that a training step moves, and of its activations. Here the
scale goes into the queries, bias and mask are one additive mask, and the windows of an image count as heads, so that
the mask is shared by all images without a copy.

Letters: B images, W windows of an image, H heads, N tokens of a window, C channels, d = C / H.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer_v2 import WindowAttention
from torch import Tensor, nn

_LARGEST_SCALE = math.log(100.0)
"""upper limit of the log of the learned scale, as published"""


class FusedWindowAttention(WindowAttention):
    """timm's window attention, parameters and buffers included, with another way to compute the same values.

    Dropout of attention is left out: a backbone is never in training mode.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within windows.

        Args:
            x: (B * W, N, C) tokens, the windows of an image in a row.
            mask: (W, N, N), added to the logits: 0, or a large negative number between regions that do not touch.

        Returns:
            (B * W, N, C).
        """
        windows, num, channels = x.shape
        parts: Any = (self.q_bias, self.k_bias, self.v_bias)
        qkv = F.linear(x, self.qkv.weight, self.qkv.bias if parts[0] is None else torch.cat(parts))
        q, k, v = qkv.view(windows, num, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q = F.normalize(q, dim=-1) * self.logit_scale.clamp(max=_LARGEST_SCALE).exp()
        added_WHNN = self._position_bias()[None]
        if mask is not None:
            added_WHNN = added_WHNN + mask[:, None]
        per_image = len(added_WHNN)

        def as_heads(value: Tensor) -> Tensor:
            return value.to(v.dtype).reshape(windows // per_image, per_image * self.num_heads, num, -1)

        out = F.scaled_dot_product_attention(
            as_heads(q),
            as_heads(F.normalize(k, dim=-1)),
            as_heads(v),
            attn_mask=added_WHNN.to(v.dtype).flatten(0, 1).expand(windows // per_image, -1, -1, -1),
            scale=1.0,
        )
        # No view of all dimensions at once: the kernels of a GPU return their rows in another order than a CPU's.
        out = out.unflatten(1, (per_image, self.num_heads)).transpose(2, 3)
        return self.proj(out.reshape(windows, num, channels))

    def _position_bias(self) -> Tensor:
        """Return the bias (H, N, N) of the relative positions; the sigmoid is taken on the table, before the gather."""
        coordinates: Any = self.relative_coords_table
        table: Tensor = 16 * self.cpb_mlp(coordinates).view(-1, self.num_heads).sigmoid()
        num = self.window_size[0] * self.window_size[1]
        index: Any = self.relative_position_index
        return table[index.view(-1)].view(num, num, -1).permute(2, 0, 1)


def fuse_window_attention(net: nn.Module) -> None:
    """Let every SwinV2 window attention of `net` compute in one kernel; parameters stay the same objects."""
    for module in net.modules():
        if type(module) is WindowAttention:
            module.__class__ = FusedWindowAttention

"""Backbone features at the keypoints (H, W: cells of a map; other letters as in nmt/batch.py)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_features(first_BCHW: Tensor, second_BCHW: Tensor, points_BN2: Tensor, image_size: int) -> Tensor:
    """Both maps, channel-normalised, read at the keypoints and concatenated.

    Args:
        first_BCHW, second_BCHW: maps of any size and width, float.
        points_BN2: pixels (x, y) in a square of side `image_size`.

    Returns:
        (B, N, C) in float32, C the sum of both widths. Bilinear; a point p reads the map at p / size * 2 - 1
        (align_corners=False), beyond the border the border's value.
    """
    grid_BN12 = (points_BN2.float() / image_size * 2 - 1).unsqueeze(2)
    sampled = [
        F.grid_sample(F.normalize(m.float(), dim=1), grid_BN12, padding_mode="border", align_corners=False)
        for m in (first_BCHW, second_BCHW)
    ]
    return torch.cat(sampled, dim=1).squeeze(3).transpose(1, 2)

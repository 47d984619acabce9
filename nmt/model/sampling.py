"""Sampling of backbone features at the keypoints (H, W: cells of a map; other letters as in nmt/batch.py)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_features(first_BCHW: Tensor, second_BCHW: Tensor, points_BN2: Tensor, image_size: int) -> Tensor:
    """Read two channel-normalised maps at the keypoints and concatenate the features, as published.

    A point p reads a map bilinearly at p / size * 2 - 1 (align_corners=False). Beyond the outermost cell centres, it
    reads the value at the border.

    Args:
        first_BCHW, second_BCHW: feature maps of any size and width, float.
        points_BN2: (x, y) in pixels of a square of side `image_size`.
        image_size: side of the input image, pixels.

    Returns:
        (B, N, C) float32; C is the sum of both widths.
    """
    grid_BN12 = (points_BN2.float() / image_size * 2 - 1).unsqueeze(2)
    sampled = [
        F.grid_sample(F.normalize(m.float(), dim=1), grid_BN12, padding_mode="border", align_corners=False)
        for m in (first_BCHW, second_BCHW)
    ]
    return torch.cat(sampled, dim=1).squeeze(3).transpose(1, 2)

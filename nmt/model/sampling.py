"""Sampling of backbone features at the keypoints (H, W: cells of a map; other letters as in nmt/batch.py)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.model.area import Area


def sample_features(first_BCHW: Tensor, second_BCHW: Tensor, points_BN2: Tensor, areas: tuple[Area, Area]) -> Tensor:
    """Read two channel-normalised maps at the keypoints and concatenate the features, as published.

    A map is read bilinearly where the keypoint lies in the area that the map covers. Beyond the outermost cell centres,
    it is read at the border. A map that covers an image of side `size` is thus read at p / size * 2 - 1
    (align_corners=False).

    Args:
        first_BCHW, second_BCHW: feature maps of any size and width, float.
        points_BN2: (x, y) in pixels of the image.
        areas: the pixels that each map covers.

    Returns:
        (B, N, C) float32; C is the sum of both widths.
    """
    sampled = []
    for map_BCHW, (start, side) in zip((first_BCHW, second_BCHW), areas, strict=True):
        grid_BN12 = ((points_BN2.float() - start) / side * 2 - 1).unsqueeze(2)
        normed_BCHW = F.normalize(map_BCHW.float(), dim=1)
        sampled.append(F.grid_sample(normed_BCHW, grid_BN12, padding_mode="border", align_corners=False))
    return torch.cat(sampled, dim=1).squeeze(3).transpose(1, 2)

"""Dense matching: each source keypoint is looked for on the target's whole feature map, as other papers do.

1. Of the cells of the target's map, one has the largest cosine to the keypoint's backbone feature. The mean of the
   cells around it, weighted by a softmax, is the arg-max position.
2. The head gets these positions as the target's keypoints. A source keypoint then takes the position that the head's
   matching gives it, which may be that of another keypoint.

So no target keypoint is read. Letters as in nmt/batch.py; P pairs, h cells along a side of the map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.batch import PairBatch, Side
from nmt.config import Config
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pair import Pair
from nmt.decoding import predict
from nmt.inference.image_features import ImageFeatures, SeenImage
from nmt.inference.pck import ALPHAS, Targets, measure
from nmt.model.backbone import Backbone
from nmt.model.matcher import Matcher
from nmt.pair_results import MODEL

FEATURES_DENSE, MODEL_DENSE = "features, dense", f"{MODEL}, dense"
"""the arg-max alone, and refined by the head"""
_RADIUS = 2
"""cells around the largest cosine that count, in each direction"""
_TEMPERATURE = 0.04
"""of the softmax of their cosines"""


class DenseMatcher:
    """A matcher that finds the targets of keypoints on the whole image.

    Args:
        matcher: in evaluation mode, on `device`; its own backbone is not read.
        backbone: the one that the head was trained with.
        config: its configuration; the image size and `decode` are read.
        device: where to compute.
        autocast: number format.
    """

    def __init__(
        self, matcher: Matcher, backbone: Backbone, config: Config, *, device: torch.device, autocast: torch.autocast
    ) -> None:
        self._head, self._backbone, self._config = matcher.head, backbone, config
        self._device, self._autocast = device, autocast
        self._size = config.data.image_size
        self._features = ImageFeatures(backbone, self._size, device=device)

    @torch.no_grad()
    def match(self, store: ObjectStore, pair: Pair) -> tuple[Tensor, Tensor]:
        """Find the source keypoints of a pair in the target's image.

        Returns:
            The arg-max positions and those refined by the head, (N, 2) float64 pixels of the square, on the CPU; inf
            where the head's matching leaves a keypoint out.
        """
        points0_N2 = store.points(pair.row0)[pair.positions0]
        with self._autocast:
            source, target = (
                self._features.see(store.image(row), source=store.id(row)) for row in (pair.row0, pair.row1)
            )
            nodes_NC = self._features.sample(source, points0_N2)
            points1_N2 = self._peaks(nodes_NC, target)
            sides = (
                self._side(points0_N2, nodes_NC, source),
                self._side(points1_N2, self._features.sample(target, points1_N2), target),
            )
            no_match_1N = torch.full((1, len(points0_N2)), -1)
            batch = PairBatch(*sides, no_match_1N, torch.zeros(1, dtype=torch.int64)).to(self._device)
            output = Matcher(self._head, None)(batch)
        chosen_N = predict(output, self._config.decode)[0].cpu()
        found_N2 = torch.from_numpy(points1_N2).double()
        return found_N2, found_N2[chosen_N.clamp_min(0)].masked_fill((chosen_N < 0)[:, None], torch.inf)

    def _peaks(self, nodes_NC: Tensor, target: SeenImage) -> np.ndarray:
        """Return where the target's features are most alike, (N, 2) float32 pixels."""
        assert self._backbone.areas is not None, "a backbone comes from build_backbone"
        maps = target.maps.first_BCHW, target.maps.second_BCHW
        cells, (start, side) = max(
            ((found.shape[-1], area) for found, area in zip(maps, self._backbone.areas, strict=True)),
            key=lambda level: level[0],
        )
        centres_h = start + (np.arange(cells) + 0.5) * side / cells
        centres_h = centres_h[(centres_h > 0) & (centres_h < self._size)].astype(np.float32)
        grid_V2 = np.stack(np.meshgrid(centres_h, centres_h), axis=-1).reshape(-1, 2)
        features_VC = self._features.sample(target, grid_V2)
        cosine_NV = F.normalize(nodes_NC.float(), dim=1) @ F.normalize(features_VC.float(), dim=1).T
        return peaks(cosine_NV.float().unflatten(1, (len(centres_h),) * 2).cpu(), torch.from_numpy(centres_h)).numpy()

    def _side(self, points_N2: np.ndarray, nodes_NC: Tensor, seen: SeenImage) -> Side:
        edges_2E = delaunay_edges(points_N2).astype(np.int64)
        return Side(
            points_BN2=torch.from_numpy(points_N2)[None],
            num_B=torch.tensor([len(points_N2)]),
            edge_index_2E=torch.from_numpy(edges_2E),
            edge_attr_E2=torch.from_numpy(edge_attributes(points_N2, edges_2E, self._size)),
            nodes_BNC=nodes_NC[None],
            global_BG=seen.maps.global_BG.float(),
        )


def peaks(cosine_Nhh: Tensor, centres_h: Tensor) -> Tensor:
    """Find the largest cosine on each map, finer than a cell.

    Args:
        cosine_Nhh: rows from top to bottom, columns from left to right.
        centres_h: where the cells are along either side, pixels.

    Returns:
        (N, 2) positions (x, y), pixels: the mean of the cells around the largest, weighted by a softmax.
    """
    num, side = cosine_Nhh.shape[:2]
    best_N = cosine_Nhh.flatten(1).argmax(1)
    near_Nh = [(torch.arange(side) - index_N[:, None]).abs() <= _RADIUS for index_N in (best_N // side, best_N % side)]
    window_Nhh = near_Nh[0][:, :, None] & near_Nh[1][:, None, :]
    weight_Nhh = (cosine_Nhh / _TEMPERATURE).masked_fill(~window_Nhh, -torch.inf).flatten(1).softmax(1)
    weight_Nhh = weight_Nhh.reshape(num, side, side)
    return torch.stack([weight_Nhh.sum(1) @ centres_h, weight_Nhh.sum(2) @ centres_h], dim=1)


def dense_counts(
    matcher: DenseMatcher, store: ObjectStore, pairs: Sequence[Pair], match_PN: Tensor, targets: Targets
) -> dict[str, Tensor]:
    """Count what dense matching gets right on each pair.

    Args:
        matcher: finds the targets.
        store: the data set.
        pairs: the evaluation pairs.
        match_PN: true target keypoint of each source keypoint, -1 = none.
        targets: where the target keypoints are.

    Returns:
        PCK of FEATURES_DENSE and MODEL_DENSE at each alpha (nmt.inference.pck) -> (P,) float64, right keypoints.
    """
    found_2PN2 = torch.full((2, *match_PN.shape, 2), torch.inf, dtype=torch.float64)
    for p, pair in enumerate(pairs):
        for own_PN2, points_N2 in zip(found_2PN2, matcher.match(store, pair), strict=True):
            own_PN2[p, : len(points_N2)] = points_N2
    return {
        measure(method, alpha): targets.right_at(points_PN2, match_PN, alpha)
        for method, points_PN2 in zip((FEATURES_DENSE, MODEL_DENSE), found_2PN2, strict=True)
        for alpha in ALPHAS
    }

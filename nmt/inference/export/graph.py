"""One pair of images as a function of plain tensors: no batch, no padding, any number of keypoints. It can be traced.

Letters: N, M keypoints of source and target, E, F their edges, C, G widths of the features, S side of the image.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from nmt.batch import Side
from nmt.confidence import Calibration, match_confidence
from nmt.model.backbone import Backbone
from nmt.model.matcher import Head
from nmt.model.spline import KERNEL, SplineConv, SplineGraph
from nmt.sinkhorn import sinkhorn


class GatheredSplineConv(SplineConv):
    """The spline convolution with plain gathers, which every runtime knows; `SplineConv` sums by `embedding_bag`."""

    def _messages_matmul(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        products = (x_VC @ self.weight).view(-1, self.bias.shape[0])
        rows_E4 = graph.index_2E[0, :, None] * KERNEL**2 + graph.kernel_E4
        return (products[rows_E4] * graph.weight_E4[..., None]).sum(1)


def _gathered(head: Head) -> Head:
    """Copy a head for tracing."""
    head = copy.deepcopy(head)
    if head.spline is not None:
        for name in ("first", "second"):
            layer: SplineConv = getattr(head.spline, name)
            own = GatheredSplineConv(*layer.root.weight.shape[::-1])
            own.load_state_dict(layer.state_dict())
            setattr(head.spline, name, own)
    return head.eval()


OUTPUTS = ("match0", "confidence0", "similarity")
"""names of the outputs of both graphs"""


class PairHead(nn.Module):
    """From features at the keypoints of two images to the match of each source keypoint.

    Args:
        head: a trained head.
        image_size: S, side of the square that keypoints are given in, pixels.
        epsilon, iterations: of the Sinkhorn plan, whose largest entry in a row is the match.
        calibration: how a confidence is read; None: it is the raw entry of the dustbin plan.
    """

    def __init__(
        self, head: Head, *, image_size: int, epsilon: float, iterations: int, calibration: Calibration | None
    ) -> None:
        super().__init__()
        self.head = _gathered(head)
        self.image_size, self.epsilon, self.iterations = image_size, epsilon, iterations
        self.calibration = calibration

    def forward(
        self,
        nodes0_NC: Tensor,
        global0_G: Tensor,
        points0_N2: Tensor,
        edges0_2E: Tensor,
        nodes1_MC: Tensor,
        global1_G: Tensor,
        points1_M2: Tensor,
        edges1_2F: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Match one pair.

        Args:
            nodes0_NC, nodes1_MC: float32, backbone features at the keypoints; N and M are at least 2.
            global0_G, global1_G: float32, global features.
            points0_N2, points1_M2: float32, (x, y) in pixels of the S x S square.
            edges0_2E, edges1_2F: int64, (from, to), both directions of the Delaunay triangulation.

        Returns:
            int64 (N), the target keypoint of each source keypoint; float32 (N), its confidence; float32 (N, M), the
            cosines.
        """
        side0, side1 = self._side(points0_N2, edges0_2E), self._side(points1_M2, edges1_2F)
        output = self.head(side0, side1, nodes0_NC[None], nodes1_MC[None], global0_G[None], global1_G[None])
        found = output.similarity_BNM, output.mask0_BN, output.mask1_BM
        log_plan_1NM = sinkhorn(*found, epsilon=self.epsilon, iterations=self.iterations)
        match_1N = log_plan_1NM.argmax(2)
        confidence_1N = match_confidence(*found, match_1N, self.calibration)
        return match_1N[0], confidence_1N[0], output.similarity_BNM[0]

    def _side(self, points_N2: Tensor, edges_2E: Tensor) -> Side:
        num_B = torch.full((1,), points_N2.shape[0], dtype=torch.int64)
        offset_E2 = points_N2[edges_2E[0]] - points_N2[edges_2E[1]]
        return Side(points_N2[None], num_B, edges_2E, 0.5 + offset_E2 * (0.5 / self.image_size))


class PairMatcher(nn.Module):
    """From two square images and their keypoints to the matches: the backbone, then `PairHead`."""

    def __init__(self, backbone: Backbone, head: PairHead) -> None:
        super().__init__()
        self.backbone, self.pair_head = backbone, head

    def forward(
        self,
        image0_SS3: Tensor,
        points0_N2: Tensor,
        edges0_2E: Tensor,
        image1_SS3: Tensor,
        points1_M2: Tensor,
        edges1_2F: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Match one pair.

        Args:
            image0_SS3, image1_SS3: uint8, red, green, blue, resized to S x S.
            points0_N2, points1_M2, edges0_2E, edges1_2F: as for `PairHead`.

        Returns:
            As `PairHead`.
        """
        nodes0_NC, global0_G = self._features(image0_SS3, points0_N2)
        nodes1_MC, global1_G = self._features(image1_SS3, points1_M2)
        return self.pair_head(nodes0_NC, global0_G, points0_N2, edges0_2E, nodes1_MC, global1_G, points1_M2, edges1_2F)

    def _features(self, image_SS3: Tensor, points_N2: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(image_SS3.permute(2, 0, 1)[None])
        return self.backbone.sample(maps, points_N2[None])[0], maps.global_BG[0].float()

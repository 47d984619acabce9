"""NMT, the Normalized Matching Transformer (arXiv 2503.17715): from two images with keypoints to their similarity.

`Matcher.forward` follows the paper's figure of the architecture. Letters as in nmt/batch.py; T = 1 + N tokens, the
global one first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.batch import PairBatch, Side
from nmt.config import ModelConfig
from nmt.model.backbone import Backbone, BackboneMaps
from nmt.model.decoder import Decoder
from nmt.model.spline import SplineCNN, spline_graph


@dataclass(frozen=True)
class MatchOutput:
    """Output of a matcher, which the losses and the decoding read."""

    similarity_BNM: Tensor
    """float32 cosines of source and target keypoints; zero where either is padding"""
    tokens0_LBTD: list[Tensor]
    """source tokens after each layer, global token first, unit length"""
    tokens1_LBTD: list[Tensor]
    """target tokens, likewise"""
    mask0_BN: Tensor
    """bool, True where a source keypoint is real"""
    mask1_BM: Tensor
    """bool, True where a target keypoint is real"""

    @property
    def source_BND(self) -> Tensor:
        """Return the source keypoints' tokens after the last layer, zero at padding."""
        return _keypoints(self.tokens0_LBTD, self.mask0_BN)

    @property
    def target_BMD(self) -> Tensor:
        """Return the target keypoints' tokens after the last layer, zero at padding."""
        return _keypoints(self.tokens1_LBTD, self.mask1_BM)


class Head(nn.Module):
    """Everything after the backbone: from features at the keypoints to the similarity.

    Args:
        config: architecture.
        channels: C, width of the keypoint features (both maps together).
        global_channels: G, width of the global feature.
    """

    def __init__(self, config: ModelConfig, *, channels: int, global_channels: int) -> None:
        super().__init__()
        width = config.feature_projection or channels
        projected = config.feature_projection and config.spline
        self.projection = nn.Linear(channels, width) if projected else nn.Identity()
        self.spline = SplineCNN(width, config.d_model, backend=config.spline_backend) if config.spline else None
        self.node_linear = nn.Linear(channels, config.d_model)
        self.global_linear = nn.Linear(global_channels, config.d_model)
        shape = (config.d_model, config.heads, config.decoder_layers, config.mlp_multiplier)
        # One decoder for the source and one for the target, which share no weights (as published).
        self.decoder0, self.decoder1 = (Decoder(*shape, normalized=config.normalized) for _ in range(2))

    def forward(
        self, view0: Side, view1: Side, nodes0_BNC: Tensor, nodes1_BMC: Tensor, global0_BG: Tensor, global1_BG: Tensor
    ) -> MatchOutput:
        """Compute the similarity of two sides.

        Args:
            view0, view1: source and target; points, masks and graphs are read.
            nodes0_BNC, nodes1_BMC: backbone features at the keypoints, zero at padding.
            global0_BG, global1_BG: global features.
        """
        graph0_BND, graph1_BMD = (
            self.graph_features(view0, view1, nodes0_BNC, nodes1_BMC) if self.spline else (None, None)
        )
        tokens0_BTD = self.tokens(graph0_BND, nodes0_BNC, global0_BG)
        tokens1_BSD = self.tokens(graph1_BMD, nodes1_BMC, global1_BG)
        mask0_BN, mask1_BM = view0.mask_BN, view1.mask_BN
        mask0_BT, mask1_BS = F.pad(mask0_BN, (1, 0), value=True), F.pad(mask1_BM, (1, 0), value=True)
        # Both decoders attend to the *input* tokens of the other image, not to its tokens of the same layer. That is
        # what the published code does, and it makes the two decoders independent of each other.
        outputs0 = self.decoder0(tokens0_BTD, tokens1_BSD, mask0_BT, mask1_BS)
        outputs1 = self.decoder1(tokens1_BSD, tokens0_BTD, mask1_BS, mask0_BT)
        similarity_BNM = cosine(_keypoints(outputs0, mask0_BN), _keypoints(outputs1, mask1_BM))
        return MatchOutput(similarity_BNM, outputs0, outputs1, mask0_BN, mask1_BM)

    def tokens(self, graph_BND: Tensor | None, nodes_BNC: Tensor, global_BG: Tensor) -> Tensor:
        """Build the input tokens of one image, (B, 1 + N, D) float32: the global token, then one per keypoint."""
        nodes_BND = self.node_linear(nodes_BNC)
        nodes_BND = nodes_BND if graph_BND is None else nodes_BND + graph_BND
        return torch.cat([self.global_linear(global_BG)[:, None], nodes_BND], dim=1).float()

    def graph_features(self, view0: Side, view1: Side, nodes0_BNC: Tensor, nodes1_BMC: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the keypoint features after the spline convolutions over each image's graph.

        Both images pass as one graph, so that the large kernel weights and their gradient are read and written once.

        Returns:
            (B, N, D) and (B, M, D).
        """
        assert self.spline is not None, "a head without spline has no graph features"
        nodes_VC = torch.cat([nodes0_BNC.flatten(0, 1), nodes1_BMC.flatten(0, 1)])
        num0 = nodes0_BNC.shape[0] * nodes0_BNC.shape[1]
        index_2E = torch.cat([view0.edge_index_2E, view1.edge_index_2E + num0], dim=1)
        graph = spline_graph(index_2E, torch.cat([view0.edge_attr_E2, view1.edge_attr_E2]))
        out_VD = self.spline(self.projection(nodes_VC), graph)
        return out_VD[:num0].unflatten(0, nodes0_BNC.shape[:2]), out_VD[num0:].unflatten(0, nodes1_BMC.shape[:2])

    def enforce_constraints(self) -> None:
        """Return the decoders' weights to the unit sphere; call it after every optimizer step."""
        self.decoder0.enforce_constraints()
        self.decoder1.enforce_constraints()


def decoder_parameters(config: ModelConfig) -> int:
    """Count the parameters of the two decoders without allocating them."""
    shape = (config.d_model, config.heads, config.decoder_layers, config.mlp_multiplier)
    with torch.device("meta"):
        decoder = Decoder(*shape, normalized=config.normalized)
    return 2 * sum(parameter.numel() for parameter in decoder.parameters())


class Matcher(nn.Module):
    """Backbone and head.

    Args:
        head: everything after the backbone.
        backbone: None in features mode, where the batch carries the features.
    """

    def __init__(self, head: Head, backbone: Backbone | None) -> None:
        super().__init__()
        self.head, self.backbone = head, backbone

    def forward(self, batch: PairBatch) -> MatchOutput:
        """Compute the similarity of the pairs of a batch."""
        (nodes0_BNC, global0_BG), (nodes1_BMC, global1_BG) = self.both_features(batch)
        return self.head(batch.source, batch.target, nodes0_BNC, nodes1_BMC, global0_BG, global1_BG)

    def both_features(self, batch: PairBatch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Read or compute the features of both sides, as `features`; images of both pass the backbone together.

        One pass over 2 B images has a third fewer kernels to launch than two passes over B.
        """
        views = batch.source, batch.target
        if self.backbone is None or any(view.image_B3HW is None or view.nodes_BNC is not None for view in views):
            return self.features(batch.source), self.features(batch.target)
        images = torch.cat([view.image_B3HW for view in views if view.image_B3HW is not None])
        draws = [view.draw_B for view in views if view.draw_B is not None] if self.training else []
        maps = self.backbone(images, torch.cat(draws) if len(draws) == len(views) else None)
        num = batch.num_pairs
        source, target = (BackboneMaps(*(value[half] for value in maps)) for half in (slice(num), slice(num, None)))
        return self._read(source, batch.source), self._read(target, batch.target)

    def features(self, view: Side) -> tuple[Tensor, Tensor]:
        """Read or compute the features of one side.

        Returns:
            Features at the keypoints (B, N, C), zero at padding, and the global feature (B, G), both float32.

        Raises:
            ValueError: neither stored features nor a backbone.
        """
        if view.nodes_BNC is not None and view.global_BG is not None:
            return view.nodes_BNC.float(), view.global_BG.float()
        if self.backbone is None:
            raise ValueError("a matcher without backbone needs batches with features (data.mode = features)")
        return self._read(self.backbone(view.image_B3HW, view.draw_B if self.training else None), view)

    def _read(self, maps: BackboneMaps, view: Side) -> tuple[Tensor, Tensor]:
        assert self.backbone is not None
        nodes_BNC = self.backbone.sample(maps, view.points_BN2)
        return nodes_BNC * view.mask_BN[..., None], maps.global_BG.float()


def _keypoints(tokens_LBTD: list[Tensor], mask_BN: Tensor) -> Tensor:
    """Return the last layer's tokens without the global one, zero at padding."""
    return tokens_LBTD[-1][:, 1:] * mask_BN[..., None]


def cosine(source_BND: Tensor, target_BMD: Tensor) -> Tensor:
    """Compute the cosines (B, N, M), float32, of vectors that are unit length or zero."""
    with torch.autocast(source_BND.device.type, enabled=False):  # bf16 would lose two digits of the similarity
        return source_BND.float() @ target_BMD.float().transpose(1, 2)

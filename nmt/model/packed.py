"""Packed matchers: K matchers of equal shape as one, with stacked parameters and batched matrix products.

A pack of K matchers on a batch of B pairs is one matcher on K * B pairs; member k's weights act on the k-th block of B.
Only modules with parameters need a packed form. Attention, norms, similarity and losses see K * B pairs. No value of
one member ever mixes with another's, not even a NaN. Letters as in nmt/batch.py and nmt/model/spline.py.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmt.batch import PairBatch, Side
from nmt.errors import UserError
from nmt.model.decoder import LearnedScale
from nmt.model.matcher import Head, Matcher, MatchOutput
from nmt.model.spline import SplineConv, SplineGraph, max_over_edges, spline_graph, spline_messages


def stacked(parameters: Sequence[Tensor]) -> nn.Parameter:
    """Stack K parameters to one (K, ...) and turn them into views of it: a change to either is seen in both.

    The members thus keep working as matchers of their own, to save, load or evaluate.
    """
    together = nn.Parameter(torch.stack([p.detach() for p in parameters]))
    for parameter, view in zip(parameters, together.detach(), strict=True):
        parameter.data = view
    return together


class PackedLinear(nn.Linear):
    """K linear maps from (K * B, ..., in) to (K * B, ..., out); weight (K, out, in), bias (K, out)."""

    def __init__(self, members: Sequence[nn.Linear]) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = members[0].in_features, members[0].out_features
        self.weight = stacked([m.weight for m in members])
        self.register_parameter("bias", None if members[0].bias is None else stacked([m.bias for m in members]))

    def forward(self, x: Tensor) -> Tensor:
        """Apply member k's map to the k-th of K equal blocks of `x`'s first dimension."""
        blocks_KRC, weight_KCD = x.reshape(len(self.weight), -1, self.in_features), self.weight.mT
        bias_KD = self._parameters["bias"]
        if bias_KD is None:
            out_KRD = torch.bmm(blocks_KRC, weight_KCD)
        else:
            out_KRD = torch.baddbmm(bias_KD[:, None], blocks_KRC, weight_KCD)
        return out_KRD.view(*x.shape[:-1], self.out_features)


class PackedScale(nn.Module):
    """K learned scales, each repeated for the B pairs of its block: (K * B, 1, D), or (K * B, H, d)."""

    def __init__(self, members: Sequence[LearnedScale]) -> None:
        super().__init__()
        self.s = stacked([m.s for m in members])
        self.ratio = members[0].ratio
        self.pairs = 0
        """B; set before each forward pass"""

    def forward(self) -> Tensor:
        """Return the effective values, one row per pair."""
        scale = self.s * self.ratio
        scale_K1HD = scale.view(len(scale), 1, -1, scale.shape[-1])
        return scale_K1HD.expand(-1, self.pairs, -1, -1).flatten(0, 1)


class PackedLayerNorm(nn.LayerNorm):
    """K layer norms of (K * B, ..., D); weight and bias (K, D)."""

    def __init__(self, members: Sequence[nn.LayerNorm]) -> None:
        first = members[0]
        super().__init__(first.normalized_shape, eps=first.eps, elementwise_affine=False)
        self.weight, self.bias = stacked([m.weight for m in members]), stacked([m.bias for m in members])

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x`, then apply member k's weight and bias to the k-th block."""
        normed_KRD = nn.functional.layer_norm(x, self.normalized_shape, eps=self.eps).view(
            len(self.weight), -1, x.shape[-1]
        )
        return torch.addcmul(self.bias[:, None], normed_KRD, self.weight[:, None]).view(x.shape)


class PackedSplineConv(nn.Module):
    """K spline convolutions over the same graph, from (K, V, C) to (K, V, D)."""

    def __init__(self, members: Sequence[SplineConv]) -> None:
        super().__init__()
        self.weight = stacked([m.weight for m in members])
        self.root = PackedLinear([m.root for m in members])
        self.bias = stacked([m.bias for m in members])

    def forward(self, x_KVC: Tensor, graph: SplineGraph) -> Tensor:
        """Convolve node features (K, V, C) to (K, V, D)."""
        # On a CPU one member at a time: its products stay in the cache. A GPU prefers few large kernels.
        size = len(x_KVC) if x_KVC.is_cuda else 1
        blocks = zip(x_KVC.split(size), self.weight.split(size), strict=True)
        pooled_KVD = torch.cat([self._pooled(x, weight, graph) for x, weight in blocks])
        return pooled_KVD + self.root(x_KVC) + self.bias[:, None]

    def _pooled(self, x_KVC: Tensor, weight_KCX: Tensor, graph: SplineGraph) -> Tensor:
        """Compute the maximum over incoming messages, with the members as one graph of K * V nodes."""
        num_members, num_nodes = x_KVC.shape[:2]
        products = torch.bmm(x_KVC, weight_KCX).view(-1, self.bias.shape[1])
        repeated = graph.repeated(num_members, num_nodes)
        messages_ED = spline_messages(products, repeated)
        return max_over_edges(messages_ED, repeated, num_members * num_nodes).view(num_members, num_nodes, -1)


def repeated(batch: PairBatch, times: int, *, num_categories: int = 0) -> PairBatch:
    """Repeat the pairs of a batch for each member of a pack.

    Features become float32. The edges are not repeated, because all members share the graphs.

    Args:
        batch: B pairs with stored features.
        times: K, number of members.
        num_categories: added to the category indices once more for each member, so that counts are kept per member.
    """

    def repeat(x: Tensor) -> Tensor:
        return x.repeat(times, *[1] * (x.dim() - 1))

    def repeated_side(side: Side) -> Side:
        floats = {name: repeat(getattr(side, name).float()) for name in ("nodes_BNC", "global_BG")}
        return dataclasses.replace(side, points_BN2=repeat(side.points_BN2), num_B=repeat(side.num_B), **floats)

    first = torch.arange(times, device=batch.category_B.device).repeat_interleave(len(batch.category_B))
    category = repeat(batch.category_B) + first * num_categories
    return PairBatch(repeated_side(batch.source), repeated_side(batch.target), repeat(batch.match_BN), category)


class PackedHead(Head):
    """K heads on the same pairs."""

    def __init__(self, members: Sequence[Head]) -> None:
        nn.Module.__init__(self)
        self.num_members = len(members)
        self.spline = None
        for name, _ in members[0].named_children():
            setattr(self, name, _packed([getattr(m, name) for m in members]))

    def graph_features(self, view0: Side, view1: Side, nodes0_BNC: Tensor, nodes1_BMC: Tensor) -> tuple[Tensor, Tensor]:
        """Compute `Head.graph_features` for the nodes of K * B pairs; the edges are those of B pairs."""
        assert self.spline is not None, "a head without spline has no graph features"
        blocks = [x.reshape(self.num_members, -1, x.shape[-1]) for x in (nodes0_BNC, nodes1_BMC)]
        num0 = blocks[0].shape[1]
        index_2E = torch.cat([view0.edge_index_2E, view1.edge_index_2E + num0], dim=1)
        graph = spline_graph(index_2E, torch.cat([view0.edge_attr_E2, view1.edge_attr_E2]))
        # Spline weights are (K, C, 25 D): the nodes of both images form one block per member, so that one batched
        # product serves all.
        out_KVD = self.spline(self.projection(torch.cat(blocks, dim=1)), graph)
        return (
            out_KVD[:, :num0].reshape(*nodes0_BNC.shape[:2], -1),
            out_KVD[:, num0:].reshape(*nodes1_BMC.shape[:2], -1),
        )


class PackedMatcher(nn.Module):
    """K matchers of features mode as one; their parameters become views of the pack's.

    Args:
        members: matchers of equal shape.

    Raises:
        UserError: a part has no packed form.
    """

    def __init__(self, members: Sequence[Matcher]) -> None:
        super().__init__()
        self.num_members = len(members)
        self.head = PackedHead([m.head for m in members])
        self._scales = [m for m in self.modules() if isinstance(m, PackedScale)]

    def forward(self, batch: PairBatch) -> MatchOutput:
        """Compute the output for the K * B pairs of a `repeated` batch."""
        for scale in self._scales:
            scale.pairs = len(batch.category_B) // self.num_members
        source, target = batch.source, batch.target
        assert source.nodes_BNC is not None and target.nodes_BNC is not None, "a pack trains on stored features"
        assert source.global_BG is not None and target.global_BG is not None
        return self.head(source, target, source.nodes_BNC, target.nodes_BNC, source.global_BG, target.global_BG)

    def share_gradients(self, members: Sequence[Matcher]) -> None:
        """Set every member's gradients to its part of the pack's."""
        own = [dict(m.named_parameters()) for m in members]
        for name, parameter in self.named_parameters():
            assert parameter.grad is not None
            for parameters, grad in zip(own, parameter.grad, strict=True):
                parameters[name].grad = grad


_PACKED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Linear: PackedLinear,
    nn.LayerNorm: PackedLayerNorm,
    LearnedScale: PackedScale,
    SplineConv: PackedSplineConv,
}


def _packed(members: Sequence[nn.Module]) -> nn.Module:
    """Build the packed form of K equal modules: parts with parameters are replaced, the rest is shared."""
    kind = type(members[0])
    if kind in _PACKED:
        return _PACKED[kind](members)
    if next(members[0].parameters(recurse=False), None) is not None:
        raise UserError(f"a {kind.__name__} cannot be packed; train these configurations one by one")
    packed = copy.copy(members[0])
    packed._modules = {name: _packed([getattr(m, name) for m in members]) for name, _ in members[0].named_children()}
    return packed

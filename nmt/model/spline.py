"""Spline convolution on the keypoint graph as one matrix product (Fey et al., SplineCNN, arXiv 1711.08920).

V nodes (all keypoints of the batch, padding included), E edges, C/D input and output width, K = 25 kernels (5 x 5).
An edge i -> j mixes the four kernels around its attribute bilinearly. Instead of four products an edge, all V * K
products are one matrix product, and an edge gathers four of its rows: 0.3 s forward and backward at paper size on two
CPU cores (tests/bench/head_step.py) where the published kernels take 53 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 5
"""kernel nodes along each of the two dimensions of the edge attribute"""


@dataclass(frozen=True)
class SplineGraph:
    """A graph with its degree-1 open B-spline basis, computed once for all convolutions."""

    index_2E: Tensor
    weight_E4: Tensor
    """bilinear weights; rows sum to 1"""
    kernel_E4: Tensor
    """the kernels they belong to: i_x + 5 i_y"""

    def repeated(self, times: int, num_nodes: int) -> SplineGraph:
        """The graph that many times over, as one of `times` x `num_nodes` nodes."""
        if times == 1:
            return self
        first_T11 = torch.arange(times, device=self.index_2E.device)[:, None, None] * num_nodes
        index_2E = (self.index_2E + first_T11).transpose(0, 1).flatten(1)
        return SplineGraph(index_2E, self.weight_E4.repeat(times, 1), self.kernel_E4.repeat(times, 1))


def spline_graph(index_2E: Tensor, attr_E2: Tensor) -> SplineGraph:
    """The graph with its basis; `attr_E2` in [0, 1]."""
    position = attr_E2 * (KERNEL - 1)
    lower = position.floor().clamp(0, KERNEL - 2)
    upper_weight = position - lower
    weight_E22 = torch.stack([1 - upper_weight, upper_weight], dim=-1)
    lower = lower.long()
    kernel_E22 = torch.stack([lower, lower + 1], dim=-1)
    weight_E4 = (weight_E22[:, 0, :, None] * weight_E22[:, 1, None, :]).flatten(1)
    kernel_E4 = (kernel_E22[:, 0, :, None] + KERNEL * kernel_E22[:, 1, None, :]).flatten(1)
    return SplineGraph(index_2E, weight_E4, kernel_E4)


def spline_messages(products: Tensor, graph: SplineGraph) -> Tensor:
    """(E, D): each edge's mix of four rows of `products` (V * K, D), the row of node v and kernel k being v * K + k."""
    rows_E4 = graph.index_2E[0, :, None] * KERNEL**2 + graph.kernel_E4
    return F.embedding_bag(rows_E4, products, mode="sum", per_sample_weights=graph.weight_E4.to(products.dtype))


def max_over_edges(messages_ED: Tensor, graph: SplineGraph, num_nodes: int) -> Tensor:
    """(V, D): each node's maximum over its incoming messages, 0 where there are none."""
    target_ED = graph.index_2E[1, :, None].expand_as(messages_ED)
    pooled_VD = messages_ED.new_zeros(num_nodes, messages_ED.shape[1])
    return pooled_VD.scatter_reduce(0, target_ED, messages_ED, "amax", include_self=False)


class SplineConv(nn.Module):
    """One spline convolution: maximum over incoming messages, plus root weight and bias.

    A node without incoming edges gets root and bias alone.

    Args:
        backend: "matmul" (this file) or "torch_spline_conv" (its compiled kernels; the extra `spline`).
    """

    def __init__(self, in_channels: int, out_channels: int, *, backend: str = "matmul") -> None:
        super().__init__()
        # One matrix, kernel-major columns: the product, its gradient and Adam all run on contiguous memory.
        self.weight = nn.Parameter(torch.empty(in_channels, KERNEL * KERNEL * out_channels))
        self.root = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = (KERNEL * KERNEL * in_channels) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.root.weight, -bound, bound)
        self._messages = {"matmul": self._messages_matmul, "torch_spline_conv": self._messages_compiled}[backend]

    def forward(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        """(V, C) -> (V, D)."""
        pooled_VD = max_over_edges(self._messages(x_VC, graph), graph, len(x_VC))
        return pooled_VD + self.root(x_VC) + self.bias

    def _messages_matmul(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        return spline_messages((x_VC @ self.weight).view(-1, self.bias.shape[0]), graph)

    def _messages_compiled(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        from torch_spline_conv import spline_weighting

        weight_KCD = self.weight.view(-1, KERNEL**2, self.bias.shape[0]).transpose(0, 1).contiguous()
        return spline_weighting(x_VC[graph.index_2E[0]], weight_KCD, graph.weight_E4.to(x_VC.dtype), graph.kernel_E4)


class SplineCNN(nn.Module):
    """Two spline convolutions with a ReLU between: keypoint features that know their neighbours."""

    def __init__(self, in_channels: int, out_channels: int, *, backend: str = "matmul") -> None:
        super().__init__()
        self.first = SplineConv(in_channels, out_channels, backend=backend)
        self.second = SplineConv(out_channels, out_channels, backend=backend)

    def forward(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        """(V, C) -> (V, D)."""
        return self.second(F.relu(self.first(x_VC, graph)), graph)

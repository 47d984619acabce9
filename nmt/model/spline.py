"""Spline convolution on the keypoint graph as one matrix product (Fey et al., SplineCNN, arXiv 1711.08920).

V nodes (all keypoints of the batch, padding included), E edges, C/D input and output width, K = 25 kernels (5 x 5).

An edge i -> j mixes, bilinearly, the four kernels around its attribute (a B-spline basis of degree 1). The obvious way
takes four small products per edge. Here one matrix product gives all V * K products, and each edge gathers four rows of
it. At paper size on two CPU cores, forward and backward take 0.3 s (tests/bench/head_step.py); torch_spline_conv, which
the published code uses, takes 53 s. Results agree to 2e-5.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.errors import UserError, one_line

KERNEL = 5
"""kernel nodes along each of the two dimensions of the edge attribute"""
MATMUL, COMPILED, PYG = "matmul", "torch_spline_conv", "pyg"
"""backends: this file; the kernels of a package; the layer of PyTorch Geometric. All have the same parameters."""


@dataclass(frozen=True)
class SplineGraph:
    """A graph with its open B-spline basis of degree 1, computed once for all convolutions."""

    index_2E: Tensor
    """int64, (from, to), node indices"""
    weight_E4: Tensor
    """bilinear weights of four kernels; rows sum to 1"""
    kernel_E4: Tensor
    """int64, indices of these kernels: i_x + 5 i_y"""
    attr_E2: Tensor
    """edge attributes in [0, 1]"""

    def repeated(self, times: int, num_nodes: int) -> SplineGraph:
        """Return `times` copies of the graph as one graph of `times` * `num_nodes` nodes."""
        if times == 1:
            return self
        first_T11 = torch.arange(times, device=self.index_2E.device)[:, None, None] * num_nodes
        index_2E = (self.index_2E + first_T11).transpose(0, 1).flatten(1)
        weight_E4, kernel_E4, attr_E2 = (t.repeat(times, 1) for t in (self.weight_E4, self.kernel_E4, self.attr_E2))
        return SplineGraph(index_2E, weight_E4, kernel_E4, attr_E2)


def spline_graph(index_2E: Tensor, attr_E2: Tensor) -> SplineGraph:
    """Compute the spline basis of a graph's edges.

    Args:
        index_2E: int64, (from, to), node indices.
        attr_E2: edge attributes in [0, 1].
    """
    position = attr_E2 * (KERNEL - 1)
    lower = position.floor().clamp(0, KERNEL - 2)
    upper_weight = position - lower
    weight_E22 = torch.stack([1 - upper_weight, upper_weight], dim=-1)
    lower = lower.long()
    kernel_E22 = torch.stack([lower, lower + 1], dim=-1)
    weight_E4 = (weight_E22[:, 0, :, None] * weight_E22[:, 1, None, :]).flatten(1)
    kernel_E4 = (kernel_E22[:, 0, :, None] + KERNEL * kernel_E22[:, 1, None, :]).flatten(1)
    return SplineGraph(index_2E, weight_E4, kernel_E4, attr_E2)


def spline_messages(products: Tensor, graph: SplineGraph) -> Tensor:
    """Mix four products per edge to its message.

    Args:
        products: (V * K, D); row v * K + k is the product of node v and kernel k.
        graph: the graph.

    Returns:
        (E, D) messages.
    """
    # embedding_bag gathers and sums in one kernel; it never writes the (E, 4, D) rows to memory.
    rows_E4 = graph.index_2E[0, :, None] * KERNEL**2 + graph.kernel_E4
    return F.embedding_bag(rows_E4, products, mode="sum", per_sample_weights=graph.weight_E4.to(products.dtype))


def max_over_edges(messages_ED: Tensor, graph: SplineGraph, num_nodes: int) -> Tensor:
    """Return each node's maximum over its incoming messages, (V, D); 0 where there are none."""
    target_ED = graph.index_2E[1, :, None].expand_as(messages_ED)
    pooled_VD = messages_ED.new_zeros(num_nodes, messages_ED.shape[1])
    return pooled_VD.scatter_reduce(0, target_ED, messages_ED, "amax", include_self=False)


class SplineConv(nn.Module):
    """Spline convolution: maximum over the incoming messages, plus a linear map of the node itself, plus a bias.

    A node without incoming edges gets the linear map and the bias alone.

    Args:
        in_channels, out_channels: C and D.
        backend: "matmul" (this file), "torch_spline_conv" (compiled kernels, from the extra `spline`) or "pyg" (the
            layer of PyTorch Geometric, with the kernels that it needs).

    Raises:
        UserError: the backend needs a package that is not installed.
    """

    def __init__(self, in_channels: int, out_channels: int, *, backend: str = "matmul") -> None:
        super().__init__()
        # One matrix, kernel-major columns: the product, its gradient and Adam all run on contiguous memory.
        self.weight = nn.Parameter(torch.empty(in_channels, KERNEL * KERNEL * out_channels))
        self.root = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        # As in PyTorch Geometric's SplineConv: the kernels within +-1 / sqrt(K C), the root within +-1 / sqrt(C), which
        # is also what nn.Linear draws.
        bound = (KERNEL * KERNEL * in_channels) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        self._backend = backend
        self._layer = pyg_layer() if backend == PYG else None
        if backend == COMPILED:
            require_compiled()

    def forward(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        """Convolve node features (V, C) to (V, D)."""
        if self._layer is not None:
            return self._by_pyg(self._layer[0], x_VC, graph)
        messages = self._messages_matmul if self._backend == MATMUL else self._messages_compiled
        pooled_VD = max_over_edges(messages(x_VC, graph), graph, x_VC.shape[0])
        return pooled_VD + self.root(x_VC) + self.bias

    def _messages_matmul(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        return spline_messages((x_VC @ self.weight).view(-1, self.bias.shape[0]), graph)

    def _messages_compiled(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        from torch_spline_conv import spline_weighting

        return spline_weighting(
            x_VC[graph.index_2E[0]], self._kernels(x_VC.dtype), graph.weight_E4.to(x_VC.dtype), graph.kernel_E4
        )

    def _by_pyg(self, layer: Any, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        """Run PyG's layer with these parameters in place of its own."""
        buffers = {name: buffer.to(x_VC.device) for name, buffer in layer.named_buffers()}
        parameters = {
            "weight": self._kernels(x_VC.dtype),
            "lin.weight": self.root.weight.to(x_VC.dtype),
            "bias": self.bias.to(x_VC.dtype),
        }
        given = (x_VC, graph.index_2E, graph.attr_E2.to(x_VC.dtype))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*non-optimized CPU version")  # whoever asks for it knows
            out_VD: Tensor = torch.func.functional_call(layer, buffers | parameters, given)
        return out_VD

    def _kernels(self, dtype: torch.dtype) -> Tensor:
        """Return the kernel weights as other implementations hold them, (K, C, D)."""
        weight_CKD = self.weight.view(-1, KERNEL**2, self.bias.shape[0])
        return weight_CKD.transpose(0, 1).contiguous().to(dtype)


def usable(backend: str) -> str:
    """Return the backend, or matmul where its package is absent: the parameters are the same, results to 2e-5."""
    try:
        if backend == COMPILED:
            require_compiled()
        elif backend == PYG:
            pyg_layer()
    except UserError:
        return MATMUL
    return backend


def require_compiled() -> None:
    """Raise UserError where the package of the backend torch_spline_conv is absent."""
    if importlib.util.find_spec(COMPILED) is None:
        raise UserError(
            f"model.spline_backend={COMPILED}: the package torch-spline-conv is not installed; build it with: pip "
            f"install --no-build-isolation torch-spline-conv, or use {MATMUL}, which gives the same"
        )


def pyg_layer() -> tuple[Any]:
    """Make a layer of PyTorch Geometric whose own parameters are never used, and hence are of the smallest size.

    Returns:
        The layer in a tuple: as a submodule it would add names to the checkpoints of this backend.

    Raises:
        UserError: PyG is absent, or the kernels that its layer calls.
    """
    try:
        from torch_geometric.nn import SplineConv as PygSplineConv

        # The first weights must not depend on the backend. A model that is only measured is built without storage.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return (PygSplineConv(1, 1, dim=2, kernel_size=KERNEL, aggr="max"),)
    except ImportError as error:
        raise UserError(
            f"model.spline_backend={PYG}: PyTorch Geometric's layer cannot be used here ({one_line(error)}; see "
            f"https://data.pyg.org); install that, or use {MATMUL}, which gives the same"
        ) from error


class SplineCNN(nn.Module):
    """Two spline convolutions with a ReLU between, which mix each keypoint's features with its neighbours'."""

    def __init__(self, in_channels: int, out_channels: int, *, backend: str = "matmul") -> None:
        super().__init__()
        self.first = SplineConv(in_channels, out_channels, backend=backend)
        self.second = SplineConv(out_channels, out_channels, backend=backend)

    def forward(self, x_VC: Tensor, graph: SplineGraph) -> Tensor:
        """Convolve node features (V, C) to (V, D)."""
        return self.second(F.relu(self.first(x_VC, graph)), graph)

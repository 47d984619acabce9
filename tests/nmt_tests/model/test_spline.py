"""Graphs and spline convolution against PyTorch Geometric, built from parts that share no code with ours."""

from __future__ import annotations

import copy
import importlib.util
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.errors import UserError
from nmt.model.spline import KERNEL, SplineConv, spline_graph
from tests.nmt_tests.model.made_pairs import made_view

SIZE = 384


def made_points(num: int, seed: int) -> np.ndarray:
    return (SIZE * np.random.default_rng(seed).random((num, 2))).astype(np.float32)


def our_graph(points_N2: np.ndarray) -> tuple[Tensor, Tensor]:
    edges_2E = delaunay_edges(points_N2)
    return torch.from_numpy(edges_2E).long(), torch.from_numpy(edge_attributes(points_N2, edges_2E, SIZE))


@given(num=st.integers(4, 20), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_graph_is_that_of_pyg(num: int, seed: int) -> None:
    from torch_geometric.data import Data
    from torch_geometric.transforms import Cartesian, Compose, Delaunay, FaceToEdge

    points_N2 = made_points(num, seed)
    transform = Compose([Delaunay(), FaceToEdge(), Cartesian(norm=True, max_value=SIZE)])
    theirs = transform(Data(pos=torch.from_numpy(points_N2)))
    index_2E, attr_E2 = our_graph(points_N2)
    order = (theirs.edge_index[0] * num + theirs.edge_index[1]).argsort()
    assert torch.equal(theirs.edge_index[:, order], index_2E)
    torch.testing.assert_close(theirs.edge_attr[order], attr_E2)


class KernelAt(nn.Module):
    """The kernel of each edge, from the 5 x 5 grid of kernels by torch's own bilinear image sampling."""

    def __init__(self, conv: SplineConv) -> None:
        super().__init__()
        grid_CKKD = conv.weight.detach().view(conv.weight.shape[0], KERNEL, KERNEL, -1)
        self.grid_CDKK = grid_CKKD.permute(0, 3, 1, 2)

    def forward(self, attr_E2: Tensor) -> Tensor:
        image = self.grid_CDKK.flatten(0, 1)[None]
        return F.grid_sample(image, 2 * attr_E2[None, :, None] - 1, align_corners=True)[0, :, :, 0].T


def test_spline_convolution_is_pygs_edge_conditioned_one_with_interpolated_kernels() -> None:
    from torch_geometric.nn import NNConv

    torch.manual_seed(0)
    ours = SplineConv(6, 4)
    nn.init.normal_(ours.bias)
    theirs = NNConv(6, 4, KernelAt(ours), aggr="max")
    theirs.load_state_dict({"lin.weight": ours.root.weight, "bias": ours.bias})
    index_2E, attr_E2 = our_graph(made_points(12, 0))
    x_VC = torch.randn(13, 6)  # the last node has no edges
    torch.testing.assert_close(
        ours(x_VC, spline_graph(index_2E, attr_E2)), theirs(x_VC, index_2E, attr_E2), rtol=1e-5, atol=1e-5
    )


def test_spline_convolution_is_the_published_sum():
    # Fey et al.: x'_i = root x_i + bias + max_j sum_k b_k(e_ji) x_j W_k, written out edge by edge.
    torch.manual_seed(0)
    conv, view = SplineConv(12, 7), made_view([6, 3], 6, 0)
    x = view.nodes_BNC.flatten(0, 1)
    weight = conv.weight.unflatten(1, (KERNEL**2, -1))
    expected = x @ conv.root.weight.T + conv.bias
    messages: dict[int, list[torch.Tensor]] = {}
    for (i, j), (u, v) in zip(view.edge_index_2E.T.tolist(), view.edge_attr_E2.tolist(), strict=True):
        message = torch.zeros(7)
        for kx in range(KERNEL):
            for ky in range(KERNEL):
                hat = max(0.0, 1 - abs(u * 4 - kx)) * max(0.0, 1 - abs(v * 4 - ky))
                message = message + hat * (x[i] @ weight[:, kx + KERNEL * ky])
        messages.setdefault(j, []).append(message)
    for j, incoming in messages.items():
        expected[j] += torch.stack(incoming).amax(0)
    graph = spline_graph(view.edge_index_2E, view.edge_attr_E2)
    assert torch.allclose(conv(x, graph), expected, atol=1e-5)


def test_spline_convolution_of_a_lone_node_is_root_and_bias():
    conv = SplineConv(4, 3)
    x = torch.randn(1, 4)
    graph = spline_graph(torch.empty(2, 0, dtype=torch.int64), torch.empty(0, 2))
    assert torch.allclose(conv(x, graph), conv.root(x) + conv.bias)


def test_spline_graph_takes_the_corners_of_the_unit_square():
    graph = spline_graph(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert torch.allclose(graph.weight_E4.sum(1), torch.ones(2))
    assert graph.kernel_E4.max() == KERNEL**2 - 1 and graph.weight_E4[1, -1] == 1


def test_compiled_spline_backend_agrees():
    pytest.importorskip("torch_spline_conv", reason="the extra `spline` is not installed")
    torch.manual_seed(0)
    ours, view = SplineConv(12, 7), made_view([6, 3], 6, 0)
    theirs = SplineConv(12, 7, backend="torch_spline_conv")
    theirs.load_state_dict(ours.state_dict())
    graph, x = spline_graph(view.edge_index_2E, view.edge_attr_E2), view.nodes_BNC.flatten(0, 1)
    assert torch.allclose(ours(x, graph), theirs(x, graph), atol=1e-5)


@pytest.mark.parametrize(
    ("backend", "package", "message"),
    [
        ("torch_spline_conv", "torch_spline_conv", "the package torch-spline-conv is not installed"),
        ("pyg", "torch_geometric.nn", "PyTorch Geometric's layer cannot be used here"),
    ],
)
def test_a_backend_whose_package_is_absent_is_one_line(
    backend: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"^model.spline_backend={backend}: {message}.* or use matmul") as error:
        SplineConv(12, 7, backend=backend)
    assert "\n" not in str(error.value)


def test_pygs_layer_without_its_kernels_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_geometric.nn.conv import spline_conv

    monkeypatch.setattr(spline_conv, "spline_basis", None)
    with pytest.raises(UserError, match=r"cannot be used here \(.*requires 'pyg-lib.*https://data.pyg.org") as error:
        SplineConv(12, 7, backend="pyg")
    assert "\n" not in str(error.value)


def basis(attr_E2: Tensor, kernel_size: Tensor, is_open: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Weights and kernels of each edge, (E, 4) both, as pyg-lib's spline_basis returns them (open, linear)."""
    assert kernel_size.tolist() == [KERNEL, KERNEL] and is_open.tolist() == [1, 1] and degree == 1
    weights, kernels = [], []
    position_E2 = attr_E2 * (kernel_size - 1)
    low_E2 = position_E2.floor()
    for corner in range(4):  # pyg-lib counts the first dimension fastest
        step_2 = torch.tensor([corner % 2, corner // 2])
        kernel_E2 = (low_E2.long() + step_2) % kernel_size
        weights.append((1 - (position_E2 - low_E2 - step_2).abs()).prod(1))
        kernels.append(kernel_E2[:, 0] + kernel_size[0] * kernel_E2[:, 1])
    return torch.stack(weights, 1), torch.stack(kernels, 1)


def weighting(x_EC: Tensor, weight_KCD: Tensor, weight_E4: Tensor, kernel_E4: Tensor) -> Tensor:
    """pyg-lib's spline_weighting."""
    return torch.einsum("ec,ekcd,ek->ed", x_EC, weight_KCD[kernel_E4], weight_E4)


@pytest.fixture
def pygs_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two functions of pyg-lib that PyG's layer calls; the real ones where the package is installed."""
    from torch_geometric.nn.conv import spline_conv

    if spline_conv.spline_basis is None:  # PyPI has no pyg-lib
        monkeypatch.setattr(spline_conv, "spline_basis", basis)
        monkeypatch.setattr(spline_conv, "spline_weighting", weighting)


@pytest.mark.usefixtures("pygs_kernels")
def test_pygs_layer_agrees_forward_and_backward_with_the_same_parameters() -> None:
    torch.manual_seed(0)
    ours = SplineConv(12, 7)
    torch.manual_seed(0)
    theirs = SplineConv(12, 7, backend="pyg")
    for key, value in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[key], value), f"{key} has another first value"
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    view = made_view([6, 3], 6, 0)
    graph, gradients, outputs = spline_graph(view.edge_index_2E, view.edge_attr_E2), [], []
    for conv in (ours, theirs):
        x = view.nodes_BNC.flatten(0, 1).clone().requires_grad_()
        outputs.append(conv(x, graph))
        outputs[-1].square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in conv.parameters())])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    for theirs_grad, ours_grad in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(theirs_grad, ours_grad, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("pygs_kernels")
def test_a_model_with_pygs_layer_is_measured_without_storage_copied_and_packed_as_any_other() -> None:
    with torch.device("meta"):
        measured = SplineConv(12, 7, backend="pyg")
    assert measured.weight.is_meta
    conv = SplineConv(12, 7, backend="pyg")
    graph = spline_graph(torch.tensor([[0], [1]]), torch.tensor([[0.3, 0.9]])).repeated(2, 2)
    x = torch.randn(4, 12)
    torch.testing.assert_close(copy.deepcopy(conv)(x, graph), conv(x, graph))
    plain = SplineConv(12, 7)
    plain.load_state_dict(conv.state_dict())
    torch.testing.assert_close(plain(x, graph), conv(x, graph), rtol=1e-5, atol=1e-5)

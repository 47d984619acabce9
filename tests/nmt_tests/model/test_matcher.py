"""The head: spline convolution, decoder and matcher against plain formulas, and the invariances of the whole."""

import dataclasses

import numpy as np
import pytest
import torch

from nmt.batch import PairBatch, Side
from nmt.config import LossConfig, ModelConfig
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.losses import loss_terms, total_loss
from nmt.model.decoder import Decoder, unit
from nmt.model.matcher import Head, Matcher, decoder_parameters
from nmt.model.sampling import sample_features
from nmt.model.spline import KERNEL, SplineConv, spline_graph

SMALL = ModelConfig(d_model=24, heads=3, decoder_layers=2, feature_projection=8)


def made_view(counts, width, seed, channels=12):
    """Pairs of `counts` keypoints padded to `width`; the content depends on pair and seed alone."""
    points, nodes, edges, attrs = np.zeros((len(counts), width, 2), np.float32), [], [], []
    for b, num in enumerate(counts):
        rng = np.random.default_rng([seed, b, num])
        points[b, :num] = rng.uniform(0, 64, (num, 2))
        row = np.zeros((width, channels), np.float32)
        row[:num] = rng.standard_normal((num, channels))
        nodes.append(row)
        edge = delaunay_edges(points[b, :num]).astype(np.int64)
        edges.append(edge + b * width)
        attrs.append(edge_attributes(points[b, :num], edge, 64))
    return Side(
        torch.from_numpy(points),
        torch.tensor(counts),
        torch.from_numpy(np.concatenate(edges, 1)),
        torch.from_numpy(np.concatenate(attrs)),
        nodes_BNC=torch.from_numpy(np.stack(nodes)),
        global_BG=torch.stack([torch.full((5,), 0.1 * num) for num in counts]),
    )


def made_batch(counts, width, seed=0):
    match = torch.full((len(counts), width), -1)
    for b, num in enumerate(counts):
        match[b, :num] = torch.arange(num).flip(0)
    return PairBatch(
        made_view(counts, width, seed),
        made_view(counts, width, seed + 1),
        match,
        torch.zeros(len(counts), dtype=torch.int64),
    )


def made_matcher(model=SMALL):
    torch.manual_seed(0)
    return Matcher(Head(model, channels=12, global_channels=5), None, image_size=64)


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


def test_features_at_a_cell_centre_are_the_cells_own():
    first, second = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 8, 8)
    centre = torch.tensor([[[40.0, 24.0]]])  # column 2, row 1 of four 16-pixel cells
    nodes = sample_features(first, second, centre, 64)
    expected = torch.nn.functional.normalize(first, dim=1)[0, :, 1, 2]
    assert nodes.shape == (1, 1, 5) and torch.allclose(nodes[0, 0, :3], expected, atol=1e-6)


def test_decoder_tokens_stay_on_the_sphere():
    decoder = Decoder(24, 3, 2, 6)
    mask = torch.ones(2, 5, dtype=torch.bool)
    for tokens in decoder(torch.randn(2, 5, 24), torch.randn(2, 5, 24), mask, mask):
        assert torch.allclose(tokens.norm(dim=-1), torch.ones(2, 5), atol=1e-5)


def test_constraints_hold_after_a_step_that_breaks_them():
    decoder = Decoder(24, 3, 1, 6)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    decoder.enforce_constraints()
    layer = decoder.layers[0]
    assert (layer.alpha_mlp.s >= 0).all()
    assert torch.allclose(layer.mlp.up.weight.norm(dim=1), torch.ones(96), atol=1e-5)  # (96, 24): along the width 24
    assert torch.allclose(layer.mlp.down.weight.norm(dim=0), torch.ones(96), atol=1e-5)
    assert torch.allclose(layer.self_attention.query.weight.norm(dim=0), torch.ones(24), atol=1e-5)


def test_unit_of_zero_is_zero():
    assert unit(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("width", [7, 12])
def test_a_pair_does_not_depend_on_its_batch_nor_on_padding(width):
    matcher, config = made_matcher(), LossConfig()
    together = matcher(made_batch([7, 4, 5], width))
    losses = loss_terms(together, made_batch([7, 4, 5], width).match_BN, config)
    batch = made_batch([7, 4, 5], 7)
    alone_view = [_only_pair(view, 1, 4) for view in (batch.source, batch.target)]
    alone_batch = PairBatch(*alone_view, batch.match_BN[1:2, :4], batch.category_B[1:2])
    alone = matcher(alone_batch)
    assert torch.allclose(together.similarity_BNM[1, :4, :4], alone.similarity_BNM[0], atol=1e-5)
    assert (together.similarity_BNM[1, 4:] == 0).all()
    for name, value in loss_terms(alone, alone_batch.match_BN, config).items():
        assert torch.allclose(losses[name][1], value[0], atol=1e-5), name


def _only_pair(view, b, num):
    width = view.points_BN2.shape[1]
    mine = (view.edge_index_2E[0] // width) == b
    return dataclasses.replace(
        view,
        points_BN2=view.points_BN2[b : b + 1, :num],
        num_B=view.num_B[b : b + 1],
        edge_index_2E=view.edge_index_2E[:, mine] - b * width,
        edge_attr_E2=view.edge_attr_E2[mine],
        nodes_BNC=view.nodes_BNC[b : b + 1, :num],
        global_BG=view.global_BG[b : b + 1],
    )


def test_gradient_of_a_batch_is_the_mean_of_its_pairs_gradients():
    matcher, config, batch = made_matcher(), LossConfig(), made_batch([6, 6], 6)

    def gradients(chosen):
        matcher.zero_grad()
        total_loss(loss_terms(matcher(chosen), chosen.match_BN, config), config).backward()
        return [p.grad.clone() for p in matcher.parameters() if p.grad is not None]

    together = gradients(batch)
    apart = [
        gradients(
            PairBatch(
                *(_only_pair(v, b, 6) for v in (batch.source, batch.target)),
                batch.match_BN[b : b + 1],
                batch.category_B[:1],
            )
        )
        for b in range(2)
    ]
    for whole, first, second in zip(together, *apart, strict=True):
        assert torch.allclose(whole, (first + second) / 2, atol=1e-5)


def test_order_of_keypoints_permutes_the_similarity():
    matcher, batch = made_matcher(), made_batch([6], 6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    inverse = order.argsort()
    source = dataclasses.replace(
        batch.source,
        points_BN2=batch.source.points_BN2[:, order],
        nodes_BNC=batch.source.nodes_BNC[:, order],
        edge_index_2E=inverse[batch.source.edge_index_2E],
    )
    shuffled = matcher(dataclasses.replace(batch, source=source)).similarity_BNM
    assert torch.allclose(shuffled, matcher(batch).similarity_BNM[:, order], atol=1e-5)


def test_images_of_different_keypoint_counts_can_be_matched():
    matcher = made_matcher()
    output = matcher(
        PairBatch(made_view([6], 6, 0), made_view([4], 4, 1), torch.full((1, 6), -1), torch.zeros(1, dtype=torch.int64))
    )
    assert output.similarity_BNM.shape == (1, 6, 4)


def test_paper_size_head_has_the_published_parameters():
    head = Head(ModelConfig(), channels=2048, global_channels=1024)
    count = lambda module: sum(p.numel() for p in module.parameters()) / 1e6  # noqa: E731
    assert round(count(head.spline), 1) == 45.4
    assert round(count(head.decoder0) + count(head.decoder1), 1) == 67.3


@pytest.mark.parametrize("ablation", [{"normalized": False}, {"spline": False}])
def test_ablated_models_keep_the_invariance_to_padding(ablation):
    matcher = made_matcher(dataclasses.replace(SMALL, **ablation))
    tight, wide = (matcher(made_batch([5, 5], width)).similarity_BNM for width in (5, 9))
    assert torch.allclose(tight, wide[:, :5, :5], atol=1e-5) and (wide[:, 5:] == 0).all()
    assert tight.abs().max() <= 1 + 1e-5
    matcher.head.enforce_constraints()


def test_vanilla_decoder_has_the_parameters_of_the_normalized_one_and_tells_short_tokens_apart():
    """Tokens arrive with length 0.5; where updates of length sqrt(D) drown them, all cosines go to 1."""
    torch.manual_seed(0)
    plain, normalized = (Decoder(96, 4, 3, 4.0, normalized=kind) for kind in (False, True))
    counts = [sum(p.numel() for p in decoder.parameters()) for decoder in (plain, normalized)]
    assert counts[0] == pytest.approx(counts[1], rel=0.02)
    tokens = unit(torch.randn(1, 10, 96) + torch.randn(1, 1, 96)) / 2
    mask = torch.ones(1, 10, dtype=torch.bool)

    def mean_cosine(h):
        return ((unit(h) @ unit(h).mT).sum() - 10) / 90

    for decoder in (plain, normalized):
        for output in decoder(tokens, tokens.flip(1), mask, mask):
            assert output.norm(dim=-1).sub(1).abs().max() < 1e-5
            assert mean_cosine(output) < mean_cosine(tokens) + 0.05


def test_decoder_parameters_are_counted_as_built_and_published() -> None:
    small = ModelConfig(d_model=24, heads=3, decoder_layers=2)
    head = Head(small, channels=12, global_channels=5)
    built = sum(p.numel() for decoder in (head.decoder0, head.decoder1) for p in decoder.parameters())
    assert decoder_parameters(small) == built
    assert round(decoder_parameters(ModelConfig()) / 1e6, 1) == 67.3  # the paper's model

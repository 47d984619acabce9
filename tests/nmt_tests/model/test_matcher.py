"""The head: spline convolution, decoder and matcher against plain formulas, and the invariances of the whole."""

import dataclasses

import pytest
import torch

from nmt.batch import PairBatch
from nmt.config import Config, LossConfig, ModelConfig, with_overrides
from nmt.losses import loss_terms, total_loss
from nmt.model.build import build_matcher
from nmt.model.matcher import Head, decoder_parameters
from tests.nmt_tests.model.made_pairs import SMALL, made_batch, made_matcher, made_view
from tests.small_model import SMALL as SMALL_NET

SMALL_IMAGES = SMALL_NET | {"model.drop_path": 0.5}


@pytest.mark.parametrize("width", [7, 12])
def test_a_pair_does_not_depend_on_its_batch_nor_on_padding(width):
    matcher, config = made_matcher(), LossConfig()
    together = matcher(made_batch([7, 4, 5], width))
    losses = loss_terms(together, made_batch([7, 4, 5], width).match_BN, config, mean_keypoints=5.5)
    batch = made_batch([7, 4, 5], 7)
    alone_view = [_only_pair(view, 1, 4) for view in (batch.source, batch.target)]
    alone_batch = PairBatch(*alone_view, batch.match_BN[1:2, :4], batch.category_B[1:2])
    alone = matcher(alone_batch)
    assert torch.allclose(together.similarity_BNM[1, :4, :4], alone.similarity_BNM[0], atol=1e-5)
    assert (together.similarity_BNM[1, 4:] == 0).all()
    for name, value in loss_terms(alone, alone_batch.match_BN, config, mean_keypoints=5.5).items():
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


@pytest.mark.parametrize("reduction", ["keypoints", "pairs"])
def test_gradient_of_a_batch_is_the_mean_of_its_pairs_gradients(reduction):
    matcher, config, batch = made_matcher(), LossConfig(reduction=reduction), made_batch([6, 6], 6)

    def gradients(chosen):
        matcher.zero_grad()
        terms = loss_terms(matcher(chosen), chosen.match_BN, config, mean_keypoints=5.5)
        total_loss(terms, config).backward()
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


def test_decoder_parameters_are_counted_as_built_and_published() -> None:
    small = ModelConfig(d_model=24, heads=3, decoder_layers=2)
    head = Head(small, channels=12, global_channels=5)
    built = sum(p.numel() for decoder in (head.decoder0, head.decoder1) for p in decoder.parameters())
    assert decoder_parameters(small) == built
    assert round(decoder_parameters(ModelConfig()) / 1e6, 1) == 67.3  # the paper's model


def test_the_images_of_both_sides_pass_the_backbone_together() -> None:
    """With the features that each side has alone, also while branches of the backbone are dropped."""
    config = with_overrides(Config(), SMALL_IMAGES, source="test")
    matcher = build_matcher(config.model, image_size=64, features=None).train()
    generator = torch.Generator().manual_seed(0)
    batch = made_batch([5, 3, 4], 5)
    views = [
        dataclasses.replace(
            view,
            nodes_BNC=None,
            global_BG=None,
            image_B3HW=torch.randint(0, 256, (3, 3, 64, 64), generator=generator, dtype=torch.uint8),
            draw_B=torch.randint(0, 1 << 40, (3,), generator=generator),
        )
        for view in (batch.source, batch.target)
    ]
    calls: list[int] = []
    assert matcher.backbone is not None
    matcher.backbone.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    both = matcher.both_features(dataclasses.replace(batch, source=views[0], target=views[1]))
    assert calls == [6]
    for together, view in zip(both, views, strict=True):
        for found, alone in zip(together, matcher.features(view), strict=True):
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)
    undropped = matcher.eval().both_features(dataclasses.replace(batch, source=views[0], target=views[1]))
    assert not torch.allclose(both[0][0], undropped[0][0], atol=1e-3)

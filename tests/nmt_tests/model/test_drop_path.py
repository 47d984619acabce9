"""Stochastic depth: timm's rates per block, and draws that belong to the image."""

from __future__ import annotations

import dataclasses

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.model.backbone import Backbone, build_backbone
from nmt.model.drop_path import DropPath, branch_draws, dropping

CONVOLUTIONS = ModelConfig(backbone="tf_efficientnet_lite0", weights="package", drop_path=0.5)


def splitmix64(seed: int, number: int) -> int:
    """Vigna's generator, on Python's integers: the top 32 bits of its output `number`."""
    x = (seed + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return (x ^ x >> 31) >> 32


@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), first=st.integers(0, 200))
def test_draws_are_those_of_splitmix64(seeds: list[int], first: int) -> None:
    draws_BK = branch_draws(torch.tensor(seeds), range(first, first + 3))
    assert draws_BK.tolist() == [[splitmix64(seed, first + k) for k in range(3)] for seed in seeds]


@pytest.mark.parametrize(
    ("name", "size"),
    [("swinv2_tiny_window8_256", 64), ("vit_tiny_patch16_224", 64), ("convnext_atto", 64), ("efficientnet_lite0", 64)],
)
def test_each_branch_drops_at_timms_rate_and_keeps_the_mean(name: str, size: int) -> None:
    backbone = build_backbone(ModelConfig(backbone=name, weights="random", drop_path=0.2), size)
    theirs = {
        key: module.drop_prob
        for key, module in timm.create_model(name, drop_path_rate=0.2).named_modules()
        if isinstance(module, timm.layers.DropPath)
    }
    ours = {key: module for key, module in backbone.net.named_modules() if isinstance(module, DropPath)}
    assert {key: module.rate for key, module in ours.items()} == theirs and len(ours) > 10
    num = 20_000
    with dropping(backbone.net, torch.randint(2**63 - 1, (num,), generator=torch.Generator().manual_seed(0))):
        for module in ours.values():
            kept_B = module(torch.ones(num, 2))
            assert torch.equal(kept_B[:, 0], kept_B[:, 1])
            assert sorted(set(kept_B[:, 0].tolist())) == pytest.approx([0, 1 / (1 - module.rate)])
            spread = (module.rate * (1 - module.rate) / num) ** 0.5
            assert float((kept_B[:, 0] == 0).float().mean()) == pytest.approx(module.rate, abs=5 * spread)


def test_published_swinv2_has_rates_from_0_to_a_fifth_over_both_branches_of_24_blocks() -> None:
    with torch.device("meta"):
        net = timm.create_model("swinv2_base_window12to24_192to384", drop_path_rate=ModelConfig().drop_path)
    rates = [module.drop_prob for module in net.modules() if isinstance(module, timm.layers.DropPath)]
    expected = [0.2 * block / 23 for block in range(1, 24) for _ in "ab"]  # the first block has none
    assert rates == pytest.approx(expected)


def images(num: int) -> Tensor:
    return torch.randint(0, 256, (num, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(CONVOLUTIONS, 64)


@pytest.mark.parametrize("rows", [[0], [2], [1, 0], [3, 1, 2]])
def test_an_image_drops_the_same_branches_alone_and_in_any_batch(backbone: Backbone, rows: list[int]) -> None:
    draw_B = torch.tensor([5, 6, 5, 2**62])
    together = backbone(images(4), draw_B)
    for part, whole in zip(backbone(images(4)[rows], draw_B[rows]), together, strict=True):
        torch.testing.assert_close(part, whole[rows], rtol=1e-4, atol=1e-5)


def test_other_numbers_drop_other_branches_and_none_drops_nothing(backbone: Backbone) -> None:
    same_BHWC, numbers = images(1).expand(8, -1, -1, -1), torch.arange(8)
    plain, drawn = (backbone(same_BHWC, draw_B).second_BCHW for draw_B in (None, numbers))
    num_different = len(torch.cat([plain, drawn]).flatten(1).mul(1e3).round().unique(dim=0))
    assert num_different > 5, "few blocks have a branch, so some images may drop none"
    off = build_backbone(dataclasses.replace(CONVOLUTIONS, drop_path=0.0), 64)
    torch.testing.assert_close(off(same_BHWC, numbers).second_BCHW, plain, rtol=0, atol=0)


def test_a_frozen_backbone_drops_nothing() -> None:
    frozen = build_backbone(CONVOLUTIONS, 64).requires_grad_(False)
    torch.testing.assert_close(frozen(images(1), torch.tensor([1])), frozen(images(1)), rtol=0, atol=0)


def test_every_parameter_has_a_gradient_where_all_its_images_are_dropped() -> None:
    # a parameter without a gradient would stall distributed training
    backbone = build_backbone(dataclasses.replace(CONVOLUTIONS, drop_path=0.9), 64)
    sum(value.square().sum() for value in backbone(images(1), torch.tensor([3]))).backward()
    assert [name for name, value in backbone.named_parameters() if value.grad is None] == []


def test_one_module_in_two_branches_draws_for_each() -> None:
    module = DropPath(0.5)
    ones = torch.ones(100)
    with dropping(module, torch.arange(100)):
        first, second = module(ones), module(ones)
    with dropping(module, torch.arange(100)):
        assert torch.equal(module(ones), first) and not torch.equal(first, second)
    assert torch.equal(module(ones), ones)


def test_vgg_has_no_branch_to_drop() -> None:
    backbone = build_backbone(ModelConfig(backbone="vgg11", weights="random"), 32)
    assert not [module for module in backbone.modules() if isinstance(module, DropPath)]


def test_a_net_whose_branches_split_an_image_asks_for_a_rate_of_0() -> None:
    model = ModelConfig(backbone="mobilevit_xxs", weights="random")
    with pytest.raises(UserError, match=r"mobilevit_xxs .*model.drop_path .* set it to 0"):
        build_backbone(model, 64)
    build_backbone(dataclasses.replace(model, drop_path=0.0), 64)

"""Matchers built from a configuration: reproducible, and with the backbone only where it is needed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from nmt.config import ModelConfig
from nmt.model.build import build_matcher

MODEL = ModelConfig(backbone="tf_efficientnet_lite0", weights="random", d_model=24, heads=3, decoder_layers=1)


@dataclass
class Widths:
    channels: int = 12
    global_channels: int = 5


def test_one_seed_gives_one_head_and_another_seed_another_and_the_callers_generator_is_untouched() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (
        build_matcher(MODEL, image_size=64, features=Widths(), seed=s).state_dict() for s in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_head_alone_has_the_widths_of_its_features() -> None:
    matcher = build_matcher(MODEL, image_size=64, features=Widths())
    assert matcher.backbone is None
    assert matcher.head.node_linear.in_features == 12 and matcher.head.global_linear.in_features == 5


@pytest.fixture(scope="module")
def whole() -> torch.nn.Module:
    return build_matcher(MODEL, image_size=64, features=None)


def test_a_whole_matcher_has_the_widths_of_its_backbone(whole) -> None:
    assert whole.head.node_linear.in_features == sum(whole.backbone.channels)
    assert whole.head.global_linear.in_features == whole.backbone.global_channels


def test_the_head_does_not_depend_on_what_the_backbone_drew(whole) -> None:
    widths = Widths(sum(whole.backbone.channels), whole.backbone.global_channels)
    alone = build_matcher(MODEL, image_size=64, features=widths).head.state_dict()
    for name, value in whole.head.state_dict().items():
        assert torch.equal(value, alone[name]), name


def test_weights_that_a_checkpoint_will_bring_are_not_fetched(whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = ModelConfig(**{**vars(MODEL), "weights": "hub"})
    built = build_matcher(hub, image_size=64, features=None, pretrained=False)
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in built.state_dict().items())

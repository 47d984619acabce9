"""Matchers built from a configuration: reproducible, and with the backbone only where it is needed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from nmt.config import ModelConfig
from nmt.model.build import build_matcher
from nmt.model.decoder import LearnedScale

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


def check_uniform(values: Tensor, bound: float) -> None:
    assert values.abs().max() <= bound, "wider than the bound"
    if values.numel() > 1000:
        assert values.abs().max() > 0.99 * bound, "narrower than the bound"
        assert abs(float(values.mean())) < 5 * bound / (3 * values.numel()) ** 0.5
        assert float(values.std()) == pytest.approx(bound / 3**0.5, rel=0.03)


def check_unit_normal(weight: Tensor, d_model: int) -> None:
    """Directions of normal vectors: unit length along the model dimension, and the fourth moment of a normal."""
    dim = 0 if weight.shape[0] == d_model else 1
    torch.testing.assert_close(weight.norm(dim=dim), torch.ones(weight.shape[1 - dim]))
    values = weight.flatten() * d_model**0.5
    assert abs(float(values.mean())) < 5 / values.numel() ** 0.5
    kurtosis = float((values**4).mean() / (values**2).mean() ** 2)
    assert kurtosis == pytest.approx(3 * d_model / (d_model + 2), rel=0.06), "a uniform weight has 1.8"


def test_every_parameter_starts_as_in_the_published_modules() -> None:
    model = dataclasses.replace(MODEL, d_model=96, heads=12, decoder_layers=2)
    head = build_matcher(model, image_size=64, features=Widths(320, 160), seed=3).head
    scale = {r"alpha_\w+": (0.05, 96**-0.5), "scale_qk": (1.0, 96**-0.5), "scale_(up|gate)": (1.0, 1.0)}
    starts: dict[str, Callable[[Tensor], None]] = {
        r"spline\.first\.weight": lambda w: check_uniform(w, (25 * 320) ** -0.5),
        r"spline\.second\.weight": lambda w: check_uniform(w, (25 * 96) ** -0.5),
        r"spline\.first\.root\.weight": lambda w: check_uniform(w, 320**-0.5),
        r"spline\.second\.root\.weight": lambda w: check_uniform(w, 96**-0.5),
        r"spline\.(first|second)\.bias": lambda b: check_uniform(b, 0.0),
        r"node_linear\.(weight|bias)": lambda w: check_uniform(w, 320**-0.5),
        r"global_linear\.(weight|bias)": lambda w: check_uniform(w, 160**-0.5),
        r"decoder[01]\.layers\.\d\.\w+_attention\.(query|key|value|out)\.weight": lambda w: check_unit_normal(w, 96),
        r"decoder[01]\.layers\.\d\.mlp\.(up|gate|down)\.weight": lambda w: check_unit_normal(w, 96),
        **{
            rf"decoder[01]\.layers\.\d\.(\w+\.)?{name}\.s": lambda s, start=start: torch.testing.assert_close(
                s, torch.full_like(s, start)
            )
            for name, (_, start) in scale.items()
        },
    }
    parameters = dict(head.named_parameters())
    for name, parameter in parameters.items():
        (start,) = [check for pattern, check in starts.items() if re.fullmatch(pattern, name)]
        start(parameter.detach())
    assert all(any(re.fullmatch(pattern, name) for name in parameters) for pattern in starts)
    for name, module in head.named_modules():
        if isinstance(module, LearnedScale):
            (init,) = [init for pattern, (init, _) in scale.items() if re.fullmatch(pattern, name.split(".")[-1])]
            torch.testing.assert_close(module().detach(), torch.full_like(module.s, init))

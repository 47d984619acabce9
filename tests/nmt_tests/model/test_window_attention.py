"""The fused window attention is timm's: outputs, gradients and parameters."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.models.swin_transformer_v2 import WindowAttention

from nmt.model.window_attention import FusedWindowAttention, fuse_window_attention


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"qkv_bias_separate": True}], ids=str)
def test_outputs_and_gradients_are_timms_in_float64(masked: bool, options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    theirs = WindowAttention(24, (4, 4), 3, **options).double().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours = copy.deepcopy(theirs)
    fuse_window_attention(ours)
    assert type(ours) is FusedWindowAttention
    mask = -100.0 * (torch.rand(4, 16, 16) < 0.3).double() if masked else None
    inputs = [torch.randn(8, 16, 24, dtype=torch.float64).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    outputs = [net(x, mask) for net, x in zip((theirs, ours), inputs, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-12, rtol=1e-12)
    for output in outputs:
        (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, atol=1e-9, rtol=1e-9)
    wanted = dict(theirs.named_parameters())
    assert wanted.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=1e-9, rtol=1e-8, msg=name)


def test_a_whole_net_loads_the_same_weights_and_gives_the_same_maps() -> None:
    options = {
        "num_classes": 0,
        "img_size": 128,
        "window_size": 8,
        "depths": (2, 2),
        "num_heads": (2, 4),
        "embed_dim": 16,
    }
    torch.manual_seed(0)
    theirs, ours = (timm.create_model("swinv2_tiny_window8_256", **options).eval() for _ in range(2))
    fuse_window_attention(ours)
    assert sum(isinstance(module, FusedWindowAttention) for module in ours.modules()) == 4
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 3, 128, 128)  # shifted windows, so that a mask is in use
    with torch.no_grad():
        torch.testing.assert_close(ours.forward_features(x), theirs.forward_features(x), atol=2e-5, rtol=1e-4)

"""EfficientNet-Lite0, the backbone whose weights come with the project's dependencies, without timm.

timm takes 2 seconds of a processor to import, half of it for torch's compiler. A process that only uses a trained
matcher builds this net instead. Its parameters have timm's names, and its features are timm's, bit for bit (a test).
Letters as in nmt/model/backbone.py.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.config import ModelConfig
from nmt.errors import UserError, one_line
from nmt.model.area import tracing
from nmt.model.backbone import BACKBONES, Backbone, BackboneMaps, areas_of, build_backbone
from nmt.model.undrawn import Undrawn
from nmt.model.weights import PACKAGE_BACKBONE, load_weights

PACKAGE = "package"
_MEAN_STD = (0.5, 0.5, 0.5)
"""mean and standard deviation of the images, as timm's configuration of the net has them"""
_STAGES = (
    # blocks, kernel, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
_LEVELS = (4, 6)
"""stages whose outputs are the two maps: the last before the stride doubles, and the last"""


class _SameConv(nn.Conv2d):
    """A convolution of stride 2 with padding SAME: it adds what the last cell lacks, the smaller half in front."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        size, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + size - side, 0) for side in x_BCHW.shape[-2:])
        x_BCHW = F.pad(x_BCHW, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x_BCHW, self.weight, self.bias, self.stride, 0, 1, self.groups)


class _Norm(nn.BatchNorm2d):
    """Batch norm, then ReLU6 where it is asked for."""

    def __init__(self, channels: int, *, act: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self._act = act

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = super().forward(x_BCHW)
        return F.relu6(x_BCHW, inplace=True) if self._act else x_BCHW


def _conv(channels: int, out: int, size: int = 1, stride: int = 1, *, groups: int = 1) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, out, size, padding=size // 2, groups=groups, bias=False)
    return _SameConv(channels, out, size, stride, groups=groups, bias=False)


class _Separable(nn.Module):
    """The first block: a depthwise convolution and a projection."""

    def __init__(self, channels: int, out: int, size: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _conv(channels, channels, size, groups=channels), _Norm(channels)
        self.conv_pw, self.bn2 = _conv(channels, out), _Norm(out, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x_BCHW))))
        return out


class _Inverted(nn.Module):
    """An inverted residual block: expand, convolve each channel, project."""

    def __init__(self, channels: int, out: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.conv_pw, self.bn1 = _conv(channels, inner), _Norm(inner)
        self.conv_dw, self.bn2 = _conv(inner, inner, size, stride, groups=inner), _Norm(inner)
        self.conv_pwl, self.bn3 = _conv(inner, out), _Norm(out, act=False)
        self._skip = stride == 1 and channels == out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.bn1(self.conv_pw(x_BCHW))
        out = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(out))))
        return out + x_BCHW if self._skip else out


class EfficientNetLite0(nn.Module):
    """The net without its classifier. In evaluation mode only: it has no stochastic depth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = _conv(3, 32, 3, 2), _Norm(32)
        stages, channels = [], 32
        for number, size, stride, expansion, out in _STAGES:
            blocks: list[nn.Module] = []
            for n in range(number):
                shape = (channels, out, size)
                blocks.append(_Separable(*shape) if expansion == 1 else _Inverted(*shape, stride if n == 0 else 1, 6))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = _conv(channels, 1280), _Norm(1280)


def _read(net: EfficientNetLite0, x_B3HW: Tensor) -> BackboneMaps:
    """Read the last two levels, and the input of the classifier with unit norm, as any timm model is read."""
    x_BCHW, levels = net.bn1(net.conv_stem(x_B3HW)), []
    for number, stage in enumerate(net.blocks):
        x_BCHW = stage(x_BCHW)
        if number in _LEVELS:
            levels.append(x_BCHW)
    first_BCHW, second_BCHW = levels
    pooled_BG = F.adaptive_avg_pool2d(net.bn2(net.conv_head(x_BCHW)), 1).flatten(1)
    return BackboneMaps(first_BCHW, second_BCHW, F.normalize(pooled_BG, dim=1))


def backbone_for_use(model: ModelConfig, image_size: int, *, weights: bool = True) -> Backbone:
    """Build the backbone of a trained matcher, by the quickest way to the same features.

    Args:
        model: names the backbone and its weights.
        image_size: side of the images, pixels.
        weights: load the weights that `model` names; False where a checkpoint replaces them.

    Raises:
        UserError: see `build_backbone`.
    """
    is_lite = model.backbone == PACKAGE_BACKBONE or (
        model.backbone == "efficientnet_lite0" and model.weights == PACKAGE
    )
    if not is_lite or BACKBONES.find(model.backbone) is not None or (weights and model.weights != PACKAGE):
        return _of_timm(model, image_size, weights=weights)
    with Undrawn():
        net = EfficientNetLite0().eval()
    if weights:
        load_weights(net, model, name=PACKAGE_BACKBONE)
    try:
        with torch.no_grad(), tracing(net, image_size) as levels:
            maps = _read(net, torch.zeros(1, 3, image_size, image_size))
    except RuntimeError as error:
        raise UserError(f"{model.backbone} takes no images of {image_size} pixels ({one_line(error)})") from error
    first, second = maps.first_BCHW.shape[1], maps.second_BCHW.shape[1]
    backbone = Backbone(
        net, _read, channels=(first, second), global_channels=maps.global_BG.shape[1], mean=_MEAN_STD, std=_MEAN_STD
    )
    backbone.areas = areas_of(levels, maps, image_size)
    return backbone


def _of_timm(model: ModelConfig, image_size: int, *, weights: bool) -> Backbone:
    if weights or BACKBONES.find(model.backbone) is not None:
        return build_backbone(model if weights else dataclasses.replace(model, weights="random"), image_size)
    with Undrawn():
        return build_backbone(dataclasses.replace(model, weights="random"), image_size)

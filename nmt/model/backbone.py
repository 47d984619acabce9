"""Image backbones: a timm net, or one that is registered, read at two levels, and a global feature.

Letters: B images, C channels, G width of the global feature, H x W map or image. The parameters train, but batch norm
and dropout stay in evaluation mode always: a pair must not depend on the rest of its batch. Stochastic depth is on in
training alone, with draws that belong to the image (nmt/model/drop_path.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.config import ModelConfig
from nmt.errors import UserError, one_line
from nmt.extensions import Registry
from nmt.model.area import Area, Cells, covered, tracing
from nmt.model.drop_path import dropping, replace_drop_paths
from nmt.model.hub import content_hash, open_weights
from nmt.model.sampling import sample_features
from nmt.model.weights import hub_error, load_weights, packaged, weights_fingerprint

_INITIAL_SEED = 0
"""seed of random weights: the same net for every training seed, as with trained weights"""


class BackboneMaps(NamedTuple):
    """Output of a backbone for a batch of images, float32: two feature maps and a global feature."""

    first_BCHW: Tensor
    second_BCHW: Tensor
    global_BG: Tensor


class Backbone(nn.Module):
    """A net whose forward computes two feature maps and a global feature.

    Args:
        net: the net, without classifier.
        read: function of the net and normalised images that returns the maps.
        channels: widths of the two maps.
        global_channels: G, width of the global feature.
    """

    def __init__(
        self,
        net: nn.Module,
        read: Callable[[Any, Tensor], BackboneMaps],
        *,
        channels: tuple[int, int],
        global_channels: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        """Wrap a net.

        Args:
            net: any module; its parameters train with the matcher.
            read: (net, images (B, 3, H, W) float32, normalised) -> its two maps and the global feature.
            channels: of the first and the second map.
            global_channels: of the global feature.
            mean, std: of the net's training images, red, green and blue in [0, 1].
        """
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)  # convolutions on a CPU take half the time
        self._read = read
        self.channels = channels
        """channels of the first and the second map"""
        self.areas: tuple[Area, Area] | None = None
        """pixels that each map covers; `build_backbone` sets them"""
        self.global_channels = global_channels
        for name, values in (("mean", mean), ("std", std)):
            values_3 = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, 255 * values_3[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.eval()

    def forward(self, images_B3HW: Tensor, draw_B: Tensor | None = None) -> BackboneMaps:
        """Compute the maps and the global feature of images.

        Args:
            images_B3HW: uint8, of the size built for.
            draw_B: int64, a random number per image, by which residual branches are dropped; None drops none, and a
                frozen net has none to drop either.

        Returns:
            Maps (B, C, h, w) and global feature (B, G).
        """
        x_B3HW = (images_B3HW.float() - self.mean) / self.std
        trains = any(parameter.requires_grad for parameter in self.net.parameters())
        with dropping(self.net, draw_B if trains else None):
            maps = self._read(self.net, x_B3HW)
        return BackboneMaps(*(value.float() for value in maps))

    def sample(self, maps: BackboneMaps, points_BN2: Tensor) -> Tensor:
        """Read both maps at keypoints (B, N, 2), in pixels of the image; see `sample_features`."""
        assert self.areas is not None, "a backbone comes from build_backbone"
        return sample_features(maps.first_BCHW, maps.second_BCHW, points_BN2, self.areas)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode; see the module's docstring."""
        return super().train(False)


BackboneBuilder = Callable[[ModelConfig, int], Backbone]
"""(model, image_size) -> the backbone for square images of that many pixels, with the weights of `model.weights`"""

BACKBONES: Registry[BackboneBuilder] = Registry("backbone")
"""backbones that are not timm's"""


def register_backbone(name: str) -> Callable[[BackboneBuilder], BackboneBuilder]:
    """Register the decorated function as what builds the backbone `name` (model.backbone).

    The random state is seeded before it is called. A registered name comes before timm's.
    """

    def register(build: BackboneBuilder) -> BackboneBuilder:
        BACKBONES.add(name, build)
        return build

    return register


def build_backbone(model: ModelConfig, image_size: int) -> Backbone:
    """Build the backbone that `model` names, with its weights, for images of `image_size` pixels; on the CPU.

    The random state of the caller is left as it was.

    Raises:
        UserError: an unknown name, a model without two levels, an image size it cannot take, or weights that are
            missing or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_INITIAL_SEED)
        build = BACKBONES.find(model.backbone)
        if build is None:
            return _build_timm(model, image_size)
        backbone = build(model, image_size)
    _measure(backbone, model.backbone, image_size)
    return backbone


def _measure(backbone: Backbone, name: str, image_size: int) -> None:
    """Find what the maps of a registered backbone cover. Raises UserError where it gives not what it declares."""
    with torch.no_grad(), tracing(backbone, image_size) as levels:
        maps = backbone(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8))
    declared = [(4, *backbone.channels[:1]), (4, *backbone.channels[1:]), (2, backbone.global_channels)]
    given = [(value.ndim, value.shape[1]) for value in maps]
    if given != declared:
        shapes = ", ".join(str(tuple(value.shape)) for value in maps)
        raise UserError(
            f"model.backbone={name} declares maps of {backbone.channels[0]} and {backbone.channels[1]} channels and "
            f"a global feature of {backbone.global_channels}, but gives {shapes}"
        )
    backbone.areas = areas_of(levels, maps, image_size)


def areas_of(levels: dict[int, Cells], maps: BackboneMaps, image_size: int) -> tuple[Area, Area]:
    first, second = (covered(levels, value.shape[-1], image_size) for value in maps[:2])
    return first, second


def _build_timm(model: ModelConfig, image_size: int) -> Backbone:
    name = backbone_name(model)
    net = _create(name, image_size, pretrained=model.weights == "hub", drop_path=model.drop_path)
    read = _reader(net)
    if model.weights not in ("hub", "random"):
        load_weights(net, model, name=name)
    maps, areas = _try_out(net.eval(), read, name, image_size)
    config: Any = net.pretrained_cfg
    backbone = Backbone(
        net,
        read,
        channels=(maps.first_BCHW.shape[1], maps.second_BCHW.shape[1]),
        global_channels=maps.global_BG.shape[1],
        mean=config["mean"],
        std=config["std"],
    )
    backbone.areas = areas
    return backbone


def ready_weights(model: ModelConfig, data: str | Path, *, offer: bool = False) -> str | None:
    """Bring the weights that a training on images starts from to this node, and check that they are there.

    Args:
        data: the data set, a folder or an address; weights of a hub are also looked for beside it.
        offer: leave a copy of weights of a hub there.

    Returns:
        12 hex digits of their content; None for weights that no file holds: random, or those of a registered backbone.

    Raises:
        UserError: no such file, or a model without weights.
        TemporaryError: the hub cannot be reached, and no copy is at hand.
    """
    if model.weights == "random" or BACKBONES.find(model.backbone) is not None:
        return None
    if model.weights == "hub":
        return content_hash(open_weights(backbone_name(model), data, offer=offer))
    return weights_fingerprint(model)


def backbone_name(model: ModelConfig) -> str:
    """Return timm's name of `model.backbone`. Raises UserError with the nearest names.

    With the package's weights, `efficientnet_lite0` means timm's tf_efficientnet_lite0, which pads as they need it.
    """
    import timm

    name = packaged(model.backbone) if model.weights == "package" else model.backbone
    try:
        known = timm.is_model(name) and timm.get_pretrained_cfg(name) is not None
    except (RuntimeError, ValueError):  # a known name with an unknown tag or source
        known = False
    if not known:
        known_names = [*BACKBONES.names(), *timm.list_models(), *timm.list_pretrained()]
        close = difflib.get_close_matches(name, known_names, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(close)}" if close else "timm.list_models() lists them"
        raise UserError(f"model.backbone: timm has no model {name!r}; {hint}")
    return name


def _create(name: str, image_size: int, *, pretrained: bool, drop_path: float) -> nn.Module:
    """Create the timm net without its classifier; models of a fixed input size are made for `image_size`."""
    import timm

    options: dict[str, Any] = {"num_classes": 0, "drop_path_rate": drop_path}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    if pretrained:
        # As a file of ours, verified. From the hub itself, timm would also read a pickle.
        options["pretrained_cfg_overlay"] = {"file": str(open_weights(name)), "custom_load": False}
    try:
        return _with_drop_path(name, pretrained, options)
    except (AssertionError, ValueError) as error:
        raise _unsuitable(name, image_size, error) from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise hub_error(name, one_line(error)) from error


def _with_drop_path(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    """Create a timm net; timm spreads the rate over the blocks, linearly from 0."""
    import timm

    try:
        net = timm.create_model(name, pretrained=pretrained, **options)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        del options["drop_path_rate"]  # a net without residual blocks
        net = timm.create_model(name, pretrained=pretrained, **options)
    replace_drop_paths(net)
    return net


def _reader(net: nn.Module) -> Callable[[Any, Tensor], BackboneMaps]:
    """Choose the function that reads two maps and a global feature from `net`.

    Parts that it never uses are removed, and SwinV2's attention is fused.
    """
    from timm.models.swin_transformer_v2 import SwinTransformerV2
    from timm.models.vgg import VGG

    from nmt.model.window_attention import fuse_window_attention

    if isinstance(net, SwinTransformerV2):
        fuse_window_attention(net)
        return _read_swinv2
    if isinstance(net, VGG):
        net.pre_logits = nn.Identity()  # type: ignore[assignment]  # 120 M parameters of the classifier
        return _read_vgg
    return _read_any


def _read_swinv2(net: Any, x_B3HW: Tensor) -> BackboneMaps:
    """Read SwinV2 as published: input and output of the last stage's blocks after the final norm; global: its mean."""
    x_BHWC = net.patch_embed(x_B3HW)
    *stages, last = net.layers
    for stage in stages:
        x_BHWC = stage(x_BHWC)
    x_BHWC = last.downsample(x_BHWC)
    first_BHWC = net.norm(x_BHWC)
    for block in last.blocks:
        x_BHWC = block(x_BHWC)
    second_BHWC = net.norm(x_BHWC)
    return BackboneMaps(first_BHWC.permute(0, 3, 1, 2), second_BHWC.permute(0, 3, 1, 2), second_BHWC.mean(dim=(1, 2)))


def _read_vgg(net: Any, x_BCHW: Tensor) -> BackboneMaps:
    """Read VGG16 at relu4_2 and relu5_1 (the usual levels of the field); global: maximum of the last map, unit norm."""
    levels = []
    num_pools = num_relus = 0
    for layer in net.features:
        x_BCHW = layer(x_BCHW)
        if isinstance(layer, nn.MaxPool2d):
            num_pools, num_relus = num_pools + 1, 0
        elif isinstance(layer, nn.ReLU):
            num_relus += 1
            if (num_pools, num_relus) in ((3, 2), (4, 1)):
                levels.append(x_BCHW)
    first_BCHW, second_BCHW = levels
    return BackboneMaps(first_BCHW, second_BCHW, F.normalize(x_BCHW.amax(dim=(2, 3)), dim=1))


def _read_any(net: Any, x_B3HW: Tensor) -> BackboneMaps:
    """Read any timm model at two levels, after its final norm; global: the input of its classifier, unit norm."""
    x_B3HW = _whole_patches(net, x_B3HW)
    final, (first_BCHW, second_BCHW) = net.forward_intermediates(x_B3HW, indices=_levels(net), norm=True)
    return BackboneMaps(first_BCHW, second_BCHW, F.normalize(net.forward_head(final, pre_logits=True), dim=1))


def _whole_patches(net: Any, x_B3HW: Tensor) -> Tensor:
    """Crop what does not fill a patch at the right and at the bottom, where a net refuses it (DINOv3).

    Nets of a fixed size leave it out by themselves.
    """
    from timm.layers.patch_embed import PatchEmbed

    embed = getattr(net, "patch_embed", None)
    if not isinstance(embed, PatchEmbed) or embed.strict_img_size or embed.dynamic_img_pad:
        return x_B3HW
    side = x_B3HW.shape[-1] // embed.patch_size[0] * embed.patch_size[0]
    return x_B3HW[:, :, :side, :side]


def _levels(net: Any) -> list[int]:
    """Choose the last two levels; in a plain ViT, where all blocks have one size, the block at 3/4 and the last.

    Two consecutive blocks of a ViT would give nearly the same features.
    """
    depth = len(net.feature_info)
    plain = len({level["reduction"] for level in net.feature_info}) == 1
    return [3 * depth // 4 - 1 if plain else depth - 2, depth - 1]


def _try_out(
    net: nn.Module, read: Callable[[Any, Tensor], BackboneMaps], name: str, image_size: int
) -> tuple[BackboneMaps, tuple[Area, Area]]:
    """Run one blank image: it gives the maps and what they cover.

    Raises:
        UserError: the image size or the model is unsuitable.
    """
    draw_B = torch.zeros(1, dtype=torch.int64)
    try:
        with torch.no_grad(), dropping(net, draw_B), tracing(net, image_size) as levels:
            maps = read(net, torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise _unsuitable(name, image_size, error) from error
    if [value.ndim for value in maps] != [4, 4, 2]:
        raise UserError(f"model.backbone={name} gives no two feature maps and a global feature; use another timm model")
    return maps, areas_of(levels, maps, image_size)


def _unsuitable(name: str, image_size: int, error: Exception) -> UserError:
    reason = one_line(error)
    return UserError(f"model.backbone={name} gives no two feature levels for data.image_size={image_size} ({reason})")

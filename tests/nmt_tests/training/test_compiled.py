"""Compiled steps: equal to eager ones, and compiled at the first batch alone.

The slow tests compile C++. The others compile with torch's backend "eager", which runs what was traced.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import re
import shutil
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor import config as inductor_config

from nmt.config import Config, DataConfig, ModelConfig, comparable
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.extensions import LOSS_TERMS
from nmt.losses import register_loss_term
from nmt.model.backbone import BACKBONES, Backbone, _reader, _try_out, register_backbone
from nmt.model.drop_path import DropPath, replace_drop_paths
from nmt.model.matcher import MatchOutput
from nmt.training import compiled
from nmt.training.compiled import blocks, static_shapes
from nmt.training.loop import train
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import SAME as SAME_TRAINING
from tests.nmt_tests.toy_training import assert_same_training, small

IMAGES = {
    "data__mode": "images",
    "data__pairs_per_step": 3,
    "data__eval_pairs": 2,
    "model__backbone": "small_swin",
    "model__decoder_layers": 1,
    "model__drop_path": 0.5,
    "optim__backbone_lr_scale": 0.5,
}
COMPILED = {"train__compile": True, "model__decoder_layers": 1}
SAME = {"rtol": 1e-4, "atol": 1e-5}
"""a compiled step against an eager one, in float32"""


@pytest.fixture(autouse=True)
def small_swins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets of four SwinV2 blocks, which differ in the rate of `model.drop_path`; the first has no branch to drop.

    Windows of "small_swin" are 4 x 4 of 8 x 8 tokens, those of the second and the fourth block shifted: three forms.
    The one window of "whole_swin" holds all tokens, and none is shifted: two forms, as C++ takes its time to compile.
    """
    monkeypatch.setattr(BACKBONES, "_items", {})
    for name, window in (("small_swin", 4), ("whole_swin", 8)):
        register_backbone(name)(functools.partial(build_swin, window))


def build_swin(window: int, model: ModelConfig, size: int) -> Backbone:
    widths: dict[str, Any] = {"embed_dim": 16, "depths": (4,), "num_heads": (2,), "window_size": window}
    net = SwinTransformerV2(size, patch_size=8, num_classes=0, drop_path_rate=model.drop_path, **widths)
    replace_drop_paths(net)
    for name, parameter in net.named_parameters():
        if "norm" in name:  # fresh blocks are the identity
            torch.nn.init.uniform_(parameter, 0.5, 1.0)
    read = _reader(net)
    maps, _ = _try_out(net.eval(), read, "swin", size)
    channels = maps.first_BCHW.shape[1], maps.second_BCHW.shape[1]
    mean_std: Any = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Backbone(net, read, channels=channels, global_channels=maps.global_BG.shape[1], **mean_std)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run what was traced, uncompiled."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    """Parts compiled so far."""
    return counters["stats"]["unique_graphs"]


def steps(config: Config, data: Path, number: int) -> tuple[list[dict[str, Tensor]], Trainer, list[int]]:
    """The losses of some steps, the trainer after them, and the number of compiled parts after each."""
    trainer = Trainer(config, data=data)
    trainer.model.train()
    losses, compiled_parts = [], []
    for parts in trainer.batches():
        losses.append(trainer.train_step(parts))
        trainer.progress.step += 1
        compiled_parts.append(graphs())
        if len(losses) == number:
            break
    return losses, trainer, compiled_parts


def assert_same_steps(config: Config, data: Path, number: int) -> tuple[Trainer, list[int]]:
    """Train eager and compiled for some steps; return the compiled trainer, and the compiled parts after each step."""
    plain, eager, _ = steps(config, data, number)
    with_compile = dataclasses.replace(config, train=dataclasses.replace(config.train, compile=True))
    fast, trainer, parts = steps(with_compile, data, number)
    for one, other in zip(plain, fast, strict=True):
        torch.testing.assert_close(other, one, **SAME)
    torch.testing.assert_close(trainer.evaluated.state_dict(), eager.evaluated.state_dict(), **SAME)
    return trainer, parts


VARIANTS: dict[str, dict[str, Any]] = {
    "images, micro-batches of 2 and 1, average": IMAGES | {"train__micro_batch": 2, "train__ema": 0.5},
    "images, frozen, bf16": IMAGES
    | {"optim__backbone_lr_scale": 0, "train__precision": "bf16", "data__pad_keypoints": 16},
    "linear, pairs, clipped": {
        "loss__layer_weighting": "linear",
        "loss__reduction": "pairs",
        "optim__clip_norm": 0.1,
        "data__pad_keypoints": 16,
    },
    "ablation": {"loss__matching": "cross_entropy", "model__normalized": False, "model__spline": False},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_compiled_step_is_the_eager_one_and_only_the_first_batch_compiles(changes, toy_data, traced):
    config = small(**changes, optim__lr=1e-4, train__steps_per_epoch=5)
    trainer, parts = assert_same_steps(config, toy_data, 5)
    different = 1 + (config.train.micro_batch > 0)  # shapes of a step's parts
    forms = 2 + 3 * (config.data.mode == "images")  # head and loss, and the blocks
    assert parts == [different * forms] * 5
    assert not counters["graph_break"]
    assert trainer.matcher.head.forward.__func__ is type(trainer.matcher.head).forward  # as it was


def test_a_compiled_training_resumes_as_if_it_had_not_stopped_and_an_eager_one_goes_on_from_it(
    toy_data, tmp_path, traced
):
    config = small(**SAME_TRAINING, train__compile=True, train__epochs=2)
    train(config, data=toy_data, directory=tmp_path / "whole")
    train(config, data=toy_data, directory=tmp_path / "parts", until=1)
    shutil.copytree(tmp_path / "parts", tmp_path / "eager")
    train(config, data=toy_data, directory=tmp_path / "parts", resume=True)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")
    eager = small(**SAME_TRAINING, train__epochs=2, data__pad_keypoints=12)
    train(eager, data=toy_data, directory=tmp_path / "eager", resume=True)
    assert_same_training(tmp_path / "whole", tmp_path / "eager")


def test_trials_that_follow_each_other_in_a_process_all_compile_and_leave_no_model(toy_data, traced, monkeypatch):
    monkeypatch.setattr(compiled, "_FORMS", 1)
    left = []
    for number in (1, 2):
        _, trainer, parts = steps(small(**COMPILED, loss__temperature=0.1 * number), toy_data, 2)
        assert parts == [2 * number] * 2
        left.append(weakref.ref(trainer.matcher.head.node_linear.weight))
        del trainer
        gc.collect()
    assert [weight() for weight in left] == [None, None]


def test_a_loss_term_that_cannot_be_traced_in_one_piece_trains_and_its_mistake_is_one_line(
    toy_data, traced, monkeypatch
):
    monkeypatch.setattr(LOSS_TERMS, "_items", {})

    @register_loss_term("spread")
    def spread(output: MatchOutput, match_BN: Tensor) -> Tensor:
        largest = float(output.similarity_BNM.abs().max().item())
        return output.similarity_BNM.square().sum((1, 2)) / (largest if largest > 0.1 else 0.1)

    @register_loss_term("wrong")
    def wrong(output: MatchOutput, match_BN: Tensor) -> Tensor:
        return output.similarity_BNM.sum()

    assert_same_steps(small(loss__extra="spread", optim__lr=1e-4), toy_data, 3)
    with pytest.raises(UserError, match="loss term 'wrong' must give one value per pair"):
        steps(small(loss__extra="wrong", train__compile=True), toy_data, 1)


def test_all_batches_have_one_shape_and_a_number_of_keypoints_that_is_set_stays(toy_store: ObjectStore) -> None:
    assert static_shapes(DataConfig(), toy_store.info).pad_keypoints == 11  # chairs have 10
    assert static_shapes(DataConfig(pad_keypoints=24), toy_store.info).pad_keypoints == 24
    assert comparable(small(train__compile=True, data__pad_keypoints=24)) == comparable(small())


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("swinv2_base_window12to24_192to384", {"SwinTransformerV2Block": 24}),
        ("vit_tiny_patch16_224", {"Block": 12}),
        ("convnext_atto", {"ConvNeXtBlock": 12}),
        ("efficientnet_lite0", {"DepthwiseSeparableConv": 1, "InvertedResidual": 15}),
        ("vgg11", {}),
    ],
)
def test_the_blocks_of_a_net_are_what_it_repeats(name: str, classes: dict[str, int]) -> None:
    with torch.device("meta"):
        net = timm.create_model(name)
    assert Counter(type(block).__name__ for block in blocks(net)) == classes


def test_blocks_whose_branches_cannot_be_told_apart_are_left_out() -> None:
    def block(*paths: DropPath) -> torch.nn.Module:
        found = torch.nn.Module()
        for number, path in enumerate((torch.nn.Linear(1, 1), *paths)):
            found.add_module(str(number), path)
        return found

    shared = DropPath(0.2)
    own = [block(), block(DropPath(0.1)), block(DropPath(0.2), DropPath(0.2))]
    others = [block(DropPath(0.1), DropPath(0.2)), block(shared), block(shared)]
    assert blocks(torch.nn.Sequential(*own, *others)) == own


@pytest.mark.slow
def test_machine_code_gives_the_same_over_twenty_batches_and_the_first_alone_compiles(toy_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    config = small(**IMAGES | {"model__backbone": "whole_swin"}, optim__lr=1e-4, train__steps_per_epoch=20)
    counters.clear()
    _, parts = assert_same_steps(config, toy_data, 20)
    assert parts == [4] * 20 and not counters["graph_break"]


@pytest.mark.slow
def test_without_a_compiler_of_cpp_the_error_is_one_line(toy_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor_config.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(UserError) as error:
        steps(small(train__compile=True), toy_data, 1)
    assert re.fullmatch(
        r"train.compile: torch.compile failed \(.*\); it needs .* or set train.compile=false", str(error.value)
    )

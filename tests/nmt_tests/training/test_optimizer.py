"""The groups of parameters of the optimizer."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nmt.errors import UserError
from nmt.extensions import Registry
from nmt.model import backbone as backbones
from nmt.training import state
from nmt.training.loop import train
from nmt.training.optimizer import AdamW
from nmt.training.trainer import Trainer
from tests.nmt_tests.model.test_layers import Net, wrapped
from tests.nmt_tests.toy_training import history, small, weights

IMAGES = {
    "data__mode": "images", "data__eval_pairs": 2, "data__pairs_per_step": 2, "optim__backbone_lr_scale": 0.1,
    "optim__lr": 1e-3, "train__epochs": 2, "train__steps_per_epoch": 2,
}  # fmt: skip
DECAY = IMAGES | {"optim__layer_decay": 0.5}


def test_without_decay_there_are_two_groups_and_with_it_one_per_layer(toy_data: Path) -> None:
    plain, layered = (Trainer(small(**changes), data=toy_data) for changes in (IMAGES, DECAY))
    assert [group["scale"] for group in plain.optimizer.param_groups] == [1.0, 0.1]
    scales = [group["scale"] for group in layered.optimizer.param_groups]
    assert scales == pytest.approx([1.0, *(0.1 * 0.5**k for k in reversed(range(len(scales) - 1)))]) and len(scales) > 8
    own = [{id(p) for p in group["params"]} for group in layered.optimizer.param_groups]
    everything = {id(p) for p in layered.matcher.parameters()}
    assert set.union(*own) == everything and sum(map(len, own)) == len(everything)
    assert own[0] == {id(p) for p in layered.matcher.head.parameters()}
    assert id(layered.matcher.backbone.net.conv_stem.weight) in own[1]
    assert id(layered.matcher.backbone.net.conv_head.weight) in own[-1]


def test_early_layers_move_less_and_the_deepest_as_without_decay(toy_data: Path) -> None:
    moved = {}
    for decay in (1.0, 0.5):
        trainer = Trainer(small(**IMAGES, optim__layer_decay=decay), data=toy_data)
        before = {name: p.detach().clone() for name, p in trainer.matcher.named_parameters()}
        trainer.train_step(next(trainer.batches()))
        # Adam's first step moves a weight by its learning rate, whatever the gradient.
        moved[decay] = {n: float((p.detach() - before[n]).abs().max()) for n, p in trainer.matcher.named_parameters()}
    stem, deepest = "backbone.net.conv_stem.weight", "backbone.net.conv_head.weight"
    assert moved[0.5][deepest] == pytest.approx(moved[1.0][deepest], rel=1e-3) == pytest.approx(1e-4, rel=1e-2)
    assert moved[0.5][stem] < 1e-3 * moved[1.0][stem]


def test_a_training_with_layer_decay_resumes_as_if_it_had_not_stopped(toy_data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small(**DECAY), data=toy_data, directory=whole)
    for epoch in (1, 2):
        train(small(**DECAY), data=toy_data, directory=parts, until=epoch, resume=epoch > 1)
    assert history(parts) == history(whole)
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())


def test_a_checkpoint_of_two_groups_resumes_without_decay_and_is_refused_with_it(
    toy_data: Path, tmp_path: Path
) -> None:
    saved = Trainer(small(**IMAGES), data=toy_data)
    saved.train_step(next(saved.batches()))
    state.save(saved, tmp_path / "checkpoint.pt")
    again = Trainer(small(**IMAGES), data=toy_data)
    state.restore(again, tmp_path / "checkpoint.pt")
    assert again.optimizer.state_dict()["param_groups"] == saved.optimizer.state_dict()["param_groups"]
    with pytest.raises(UserError, match=r"optim.layer_decay is 1.0 in it and 0.5 now"):
        state.restore(Trainer(small(**DECAY), data=toy_data), tmp_path / "checkpoint.pt")


def test_a_backbone_without_layers_is_refused_only_where_they_are_read(toy_data, monkeypatch) -> None:
    monkeypatch.setattr(backbones, "BACKBONES", Registry("backbone"))
    backbones.register_backbone("mine")(lambda model, image_size: wrapped(Net()))
    Trainer(small(**IMAGES, model__backbone="mine"), data=toy_data)
    Trainer(small(**(DECAY | {"optim__backbone_lr_scale": 0}), model__backbone="mine"), data=toy_data)
    with pytest.raises(UserError, match=r"model.backbone=mine does not say which layers .*; set optim.layer_decay"):
        Trainer(small(**DECAY, model__backbone="mine"), data=toy_data)


def test_the_optimizer_is_torchs_own_in_value_and_state() -> None:
    """Bit for bit, through a saved state and a change of the rate."""
    ours, theirs = ([torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))] for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1, "fused": True}
    pairs = [(ours, AdamW(ours, **options)), (theirs, torch.optim.AdamW(theirs, **options))]
    for step in range(6):
        for (parameter,), optimizer in pairs:
            parameter.grad = torch.sin(torch.arange(12.0) + step).view(3, 4)
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.step()
            optimizer.zero_grad()
            assert parameter.grad is None and parameter.requires_grad
        if step == 3:
            saved = [optimizer.state_dict() for _, optimizer in pairs]
            assert saved[0]["param_groups"] == saved[1]["param_groups"]
            pairs[0][1].load_state_dict(copy.deepcopy(saved[1]))
    assert torch.equal(ours[0], theirs[0])


def test_a_step_of_the_optimizer_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from nmt.training.optimizer import AdamW; p = torch.nn.Parameter(torch.ones(2)); "
        "optimizer = AdamW([p], lr=0.1, fused=True); p.grad = torch.ones(2); optimizer.step(); optimizer.zero_grad(); "
        "optimizer.load_state_dict(optimizer.state_dict()); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

from __future__ import annotations

import pytest
import torch

from nmt.errors import UserError
from nmt.training.loop import train
from nmt.training.trainer import DivergedError, Trainer
from tests.nmt_tests.toy_training import SAME, assert_same_training, small, weights


def test_divergence_is_an_error_not_a_result(toy_data, tmp_path):
    with pytest.raises(DivergedError, match="no longer finite"):
        train(small(optim__lr=1.0, loss__temperature=1e-44), data=toy_data, directory=tmp_path)


def test_end_to_end_training_moves_backbone_and_head(toy_data, tmp_path):
    config = small(
        data__mode="images", data__pairs_per_step=2, data__eval_pairs=2, model__backbone="tf_efficientnet_lite0",
        optim__backbone_lr_scale=0.5, train__epochs=1, train__steps_per_epoch=2,
    )  # fmt: skip
    before = Trainer(config, data=toy_data).matcher.state_dict()
    train(config, data=toy_data, directory=tmp_path)
    after = weights(tmp_path)
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"backbone", "head"}
    statistics = [n for n in after if "running_mean" in n]
    assert statistics and all(torch.equal(after[n], before[n]) for n in statistics)


def test_more_workers_than_pairs_are_refused(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.distributed.world_size", lambda: 5)
    with pytest.raises(UserError, match="data.pairs_per_step = 4 leaves some of 5 workers without a pair"):
        Trainer(small(), data=toy_data)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_a_step_in_parts_is_the_same_step(alone, toy_data, tmp_path, micro_batch):
    largest = 0
    original = Trainer._backward

    def measured(self, part):
        nonlocal largest
        largest = max(largest, part.num_pairs)
        return original(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_backward", measured)
        train(small(**SAME, train__micro_batch=micro_batch), data=toy_data, directory=tmp_path)
    assert largest == micro_batch
    assert_same_training(alone, tmp_path)


def test_gradients_are_clipped_as_torch_does_and_none_is_left(toy_data):
    trainers = [Trainer(small(optim__clip_norm=clip, optim__weight_decay=0.1), data=toy_data) for clip in (0.0, 0.05)]
    before = {name: p.detach().clone() for name, p in trainers[0].matcher.named_parameters()}
    batch = next(trainers[0].batches())
    for trainer in trainers:
        trainer.set_learning_rate()
        trainer._backward(batch[0])
    expected = [p.grad.clone() for p in trainers[1].matcher.parameters()]
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in expected]))
    assert norm > 0.05
    for trainer, factor in zip(trainers, (1.0, 0.05 / norm), strict=True):
        reference = [torch.nn.Parameter(value.clone()) for value in before.values()]
        for parameter, grad in zip(reference, expected, strict=True):
            parameter.grad = grad * factor
        torch.optim.AdamW(reference, lr=5e-3, weight_decay=0.1).step()
        trainer.update()
        for (name, found), wanted in zip(trainer.matcher.named_parameters(), reference, strict=True):
            assert found.grad is None
            torch.testing.assert_close(found.detach(), wanted.detach(), atol=1e-5, rtol=1e-4, msg=name)


def test_head_and_backbone_have_learning_rates_of_their_own_that_drop_together(toy_data):
    config = small(data__mode="images", optim__backbone_lr_scale=0.1, optim__lr=0.01, optim__gamma=0.5)
    trainer = Trainer(config, data=toy_data)
    for trainer.progress.epoch, factor in ((0, 1), (1, 1), (2, 0.5)):
        trainer.set_learning_rate()
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        assert rates == pytest.approx([0.01 * factor, 0.001 * factor])


def test_a_data_set_without_val_is_refused_before_the_first_step(make_store, toy_objects) -> None:
    store = make_store([o for o in toy_objects() if o.split != "val"])
    images = small(data__mode="images", data__image_size=64)
    with pytest.raises(UserError, match="no objects in split val, so it cannot be trained on"):
        Trainer(images, data=store.directory)

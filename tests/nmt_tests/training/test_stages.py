"""The stages of a training step, and that telling them changes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.training.stages import AVERAGE, BACKBONE, BACKWARD, CONSTRAINTS, HEAD, LOSS, OPTIMIZER, stages
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import small


def test_each_stage_is_told_in_its_order_and_the_step_is_the_same(toy_data):
    config = small(data__mode="images", model__backbone="test_efficientnet", data__pairs_per_step=2, train__ema=0.9)
    told: list[str] = []
    trainers = [Trainer(config, data=toy_data) for _ in range(2)]
    batch = trainers[0].stream.batch(0, range(2))
    methods = set(vars(trainers[0].matcher.head)), set(vars(trainers[0])), Tensor.backward
    with stages(trainers[0], told.append):
        trainers[0].train_step([batch])
    assert told == [BACKBONE, HEAD, LOSS, BACKWARD, OPTIMIZER, CONSTRAINTS, AVERAGE]
    assert methods == (set(vars(trainers[0].matcher.head)), set(vars(trainers[0])), Tensor.backward)
    for trainer, count in zip(trainers, (0, 7), strict=True):
        trainer.train_step([batch])
        assert len(told) == 7, count
    trainers[1].train_step([batch])
    ours, theirs = (trainer.matcher.state_dict() for trainer in trainers)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

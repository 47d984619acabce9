"""The course of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.config import Config, with_overrides
from nmt.errors import UserError
from nmt.training.loop import train
from nmt.training.packed import train_packed
from nmt.training.schedule import learning_rate_factor
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import history, small, weights


def config(**changes: Any) -> Config:
    return with_overrides(Config(), {k.replace("__", "."): v for k, v in changes.items()}, source="test")


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1), (1, 1), (2, 0.1), (4, 0.1), (5, 0.01), (11, 0.01)])
@pytest.mark.parametrize("step", [0, 1, 1999])
def test_learning_rate_drops_after_epochs_two_and_five(epoch: int, factor: float, step: int) -> None:
    assert learning_rate_factor(Config(), 2000 * epoch + step) == pytest.approx(factor)


@given(st.integers(0, 23_999), st.floats(0, 1), st.lists(st.integers(0, 12), unique=True))
def test_without_warm_up_milestones_are_the_power_of_gamma_to_the_bit(step: int, gamma: float, epochs: list[int]):
    gamma, milestones = gamma or 1.0, sorted(epochs)
    found = learning_rate_factor(config(optim__gamma=gamma, optim__milestones=milestones), step)
    assert found == gamma ** sum(step // 2000 >= milestone for milestone in milestones)


COSINE = {"optim__schedule": "cosine", "train__epochs": 4, "train__steps_per_epoch": 10}


def test_the_cosine_starts_at_one_is_half_in_the_middle_and_ends_just_above_zero() -> None:
    factors = [learning_rate_factor(config(**COSINE), step) for step in range(40)]
    assert factors[0] == 1 and factors[20] == pytest.approx(0.5)
    assert factors == sorted(factors, reverse=True)
    assert 0 < factors[-1] < 0.005


@given(st.sampled_from(["cosine", "milestones"]), st.floats(0.01, 3.9))
def test_the_rate_rises_linearly_in_the_warm_up_and_never_exceeds_one(schedule: str, warmup: float) -> None:
    changes = COSINE | {"optim__schedule": schedule, "optim__milestones": [], "optim__warmup_epochs": warmup}
    factors = [learning_rate_factor(config(**changes), step) for step in range(40)]
    rising = math.floor(10 * warmup)  # steps that lie in the warm-up whole
    assert factors[:rising] == pytest.approx([(step + 1) / (10 * warmup) for step in range(rising)])
    assert all(0 < factor <= 1 for factor in factors)
    after = factors[rising + 1 :]
    assert after == sorted(after, reverse=True) and (schedule == "cosine" or set(after) <= {1.0})


def test_a_warm_up_that_never_ends_is_refused() -> None:
    with pytest.raises(UserError, match=r"optim.warmup_epochs must be below train.epochs = 2, but got 2.5"):
        config(train__epochs=2, optim__warmup_epochs=2.5)


WARM = {"optim__schedule": "cosine", "optim__warmup_epochs": 1.5}


def test_each_step_of_a_training_has_its_rate_and_the_log_names_the_last_of_the_epoch(toy_data, tmp_path) -> None:
    used: list[float] = []
    original = Trainer.update

    def noted(self: Trainer) -> None:
        original(self)
        used.append(self.optimizer.param_groups[0]["lr"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", noted)
        train(small(**WARM), data=toy_data, directory=tmp_path)
    expected = [5e-3 * learning_rate_factor(small(**WARM), step) for step in range(18)]
    assert used == expected and len(set(used)) == 17  # the warm-up ends at the rate with which the cosine begins
    assert [line["train/learning_rate"] for line in history(tmp_path)] == expected[5::6]


@pytest.mark.parametrize("packed", [False, True])
def test_a_training_in_jobs_of_one_epoch_keeps_the_schedule_of_all(toy_data, tmp_path, packed: bool) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small(**WARM), data=toy_data, directory=whole)
    for epoch in (1, 2, 3):
        if packed and epoch > 1:  # packed from the second epoch on
            train_packed([small(**WARM)], data=toy_data, directories=[parts], until=epoch, resume=True)
        else:
            train(small(**WARM), data=toy_data, directory=parts, until=epoch, resume=epoch > 1)
    assert [m["train/learning_rate"] for m in history(parts)] == [m["train/learning_rate"] for m in history(whole)]
    for name, value in weights(whole).items():
        assert (weights(parts)[name] - value).abs().max() <= (1e-4 if packed else 0), name

"""Which configurations may train as one pack."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.config import SETTINGS, Config, with_overrides
from nmt.errors import UserError
from nmt.training.packable import NEEDED, OWN, check_packable, is_shared, shape

BASE = with_overrides(Config(), {"data.mode": "features", "model.feature_projection": 8}, source="test")
CHANGES: dict[str, Any] = {
    "optim.lr": 0.01,
    "optim.milestones": [1],
    "loss.temperature": 0.5,
    "loss.layer_weighting": "linear",
    "loss.reduction": "pairs",
    "decode.epsilon": 0.5,
    "decode.assignment": "hungarian",
    "data.pairs_per_step": 2,
    "data.image_size": 64,
    "model.d_model": 24,
    "model.spline": False,
    "train.epochs": 3,
    "train.seed": 1,
    "loss.matching": "sinkhorn",
}


def changed(keys: list[str]) -> Config:
    return with_overrides(BASE, {key: CHANGES[key] for key in keys}, source="test")


keys = st.lists(st.sampled_from(list(CHANGES)), max_size=4, unique=True)


@given(keys, keys)
def test_a_pack_is_accepted_exactly_where_the_shapes_are_equal(one: list[str], other: list[str]) -> None:
    configs = [changed(one), changed(other)]
    if shape(configs[0]) == shape(configs[1]):
        check_packable(configs)
    else:
        with pytest.raises(UserError, match="packed trials share") as error:
            check_packable(configs)
        named = str(error.value).split("share ")[1].split(",")[0]
        assert named in set(one) ^ set(other) and is_shared(named, configs[0])


def test_members_have_their_own_optimizer_losses_and_decoding() -> None:
    for key in SETTINGS:
        own = key.startswith(OWN) and key not in ("loss.matching", "loss.extra", "loss.unmatched")
        assert is_shared(key, BASE) is not own, key
    # a plan that is trained through has one number of iterations for all
    through = changed(["loss.matching"])
    losing = with_overrides(BASE, {"data.outliers": 0.5}, source="test")  # the same pairs for all
    assert is_shared("optim.milestones", losing) and is_shared("optim.schedule", losing)
    losing = with_overrides(losing, {"data.outliers_from": 1}, source="test")
    assert not is_shared("optim.milestones", losing)
    assert is_shared("decode.sinkhorn_iterations", through) and not is_shared("decode.epsilon", through)


@pytest.mark.parametrize("key", NEEDED)
def test_what_a_pack_cannot_train_is_named(key: str) -> None:
    others = {"data.mode": "images", "model.spline_backend": "torch_spline_conv", "loss.extra": "mine"}
    other, (branch, _, name) = others.get(key, not NEEDED[key]), key.partition(".")
    # Past the check of the configuration, which knows no loss term "mine".
    config = dataclasses.replace(BASE, **{branch: dataclasses.replace(getattr(BASE, branch), **{name: other})})
    with pytest.raises(UserError, match=rf"packed trials need {key} = {NEEDED[key]!r}, but it is {other!r}"):
        check_packable([config] * 2)

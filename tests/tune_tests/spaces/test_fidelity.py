"""What features tell of images: keys they do not read, rank correlations, and which parameters they order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

import nmt.training.loop
import nmt.training.trainer
from nmt.config import Config, from_dict, with_overrides
from tests.bench.fidelity_table import MEASURED, Measured, Measurement
from tune.results.statistics import rank_correlation
from tune.spaces.fidelity import HIGH, LOW, ON_IMAGES, without_effect

TINY = {
    "data": {"name": "tiny", "mode": "features", "image_size": 32, "pairs_per_step": 4, "eval_pairs": 8},
    "model": {"backbone": "tiny", "weights": "random", "d_model": 16, "heads": 2, "decoder_layers": 2},
    "optim": {"lr": 1e-2, "milestones": [1]},
    "train": {"epochs": 2, "steps_per_epoch": 2},
}
READ: dict[str, Any] = {
    "optim.lr": 1e-3,
    "optim.milestones": [],
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 1.0,
    "optim.gamma": 0.5,
    "optim.weight_decay": 0.5,
    "optim.clip_norm": 1e-3,
    "loss.temperature": 0.5,
    "loss.hyperspherical": 0.0,
    "loss.layer": 1.0,
    "loss.layer_weighting": "linear",
    "model.decoder_layers": 1,
    "model.feature_projection": 4,
    "data.pairs_per_step": 2,
}


def last_loss(config: Config, data: Path) -> float:
    """Of the second of two short epochs."""
    trainer = nmt.training.trainer.Trainer(config, data=data)
    for trainer.progress.epoch in range(2):
        trainer.progress.step, trainer.progress.loss_sums = 0, {}
        losses = trainer.train_epoch(on_step=lambda step: None)
    return losses["loss"]


@pytest.fixture(scope="module")
def plain_loss(tiny_data: Path) -> float:
    return last_loss(from_dict(TINY, source="test"), tiny_data)


@pytest.mark.parametrize("key", [*ON_IMAGES, *READ])
def test_a_key_is_said_to_have_no_effect_on_features_exactly_where_training_does_not_read_it(
    key: str, tiny_data: Path, plain_loss: float
) -> None:
    config = from_dict(TINY, source="test")
    changed = with_overrides(config, {key: READ.get(key, 0.5)}, source="test")
    assert (last_loss(changed, tiny_data) == plain_loss) == (without_effect(config, key) is not None)


def test_stored_views_read_the_augmentation_and_images_read_everything_but_views() -> None:
    views = from_dict({"data": {"mode": "features", "views": 3}}, source="test")
    assert {key for key in ON_IMAGES if without_effect(views, key)} == {
        "optim.backbone_lr_scale",
        "optim.layer_decay",
        "model.drop_path",
    }
    images = from_dict({}, source="test")
    assert not any(without_effect(images, key) for key in ON_IMAGES) and without_effect(images, "data.views")


def measured(**accuracies: tuple[list[float], list[float]]) -> Measured:
    """Configurations by their lr ("base" the base), each with accuracies over seeds on features and on images."""
    rows = []
    for name, both in accuracies.items():
        changes: dict[str, Any] = {} if name == "base" else {"optim.lr": name} if name[0] == "l" else {"other": name}
        for fidelity, values in zip((LOW, HIGH), both, strict=True):
            rows += [
                Measurement(fidelity=fidelity, changes=changes, seed=seed, accuracy=value, seconds=1.0)
                for seed, value in enumerate(values)
            ]
    return Measured({}, rows)


def test_rank_correlation_is_spearmans_over_the_means_of_what_both_fidelities_have() -> None:
    found = measured(
        base=([0.3, 0.32], [0.2]), la=([0.4], [0.25]), lb=([0.35], [0.1]), o=([0.2], [0.22]), only=([0.9], [])
    )
    rank = found.rank()
    assert rank is not None and rank.count == 4
    expected = spearmanr([0.31, 0.4, 0.35, 0.2], [0.2, 0.25, 0.1, 0.22])
    assert (rank.correlation, rank.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert rank_correlation([0.1, 0.2], [0.1, 0.2]) is None


def test_order_of_one_parameter_counts_only_what_is_more_than_noise() -> None:
    found = measured(base=([0.30], [0.20]), la=([0.40], [0.30]), lb=([0.35], [0.15]), o=([0.1], [0.9]))
    order = found.order("optim.lr")
    # la beats both at both; lb is above the base on features and below it on images.
    assert order is not None and (order.alike, order.reversed, order.within_noise) == (2, 1, 0)
    assert order.words == "poorly: in part the other way round"
    assert found.order("loss.layer") is None
    near = measured(base=([0.30], [0.20]), la=([0.40], [0.30]), lb=([0.319], [0.1]))
    order = near.order("optim.lr")  # at one seed 1.9 points are noise
    assert order is not None and (order.alike, order.reversed, order.within_noise) == (2, 0, 1)
    assert order.words == "alike"


def test_noise_is_the_deviation_over_seeds_without_what_a_seed_gives_to_all() -> None:
    shifted = measured(base=([0.3, 0.4], [0.3, 0.4]), la=([0.5, 0.6], [0.5, 0.6]), lb=([0.1, 0.2], [0.1, 0.2]))
    assert shifted.noise(LOW) == pytest.approx(0)
    # Two seeds: the deviation of one training is that of the paired differences over the square root of 2.
    crossed = measured(base=([0.30, 0.32], [0.3]), la=([0.42, 0.40], [0.5]), lb=([0.1, 0.1], [0.1]))
    assert crossed.noise(LOW) == pytest.approx(0.02 / 2**0.5) and crossed.noise(HIGH) is None


def test_measurements_of_the_project_are_on_both_fidelities_and_come_back_as_saved(tmp_path: Path) -> None:
    found = Measured.load()
    rank = found.rank()
    assert rank is not None and rank.count >= 8
    found.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == MEASURED.read_text()

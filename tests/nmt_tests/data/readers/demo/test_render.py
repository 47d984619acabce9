"""The demo data set: reproducible pictures, keypoints where the parts are, and pairs that positions do not solve."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nmt.config import Config, with_overrides
from nmt.data.prepare.features import add_features
from nmt.data.prepare.objects import prepare
from nmt.data.readers.demo import render as demo
from nmt.inference.evaluate import evaluate_checkpoint
from nmt.training.loop import train
from tests.nmt_tests.data.readers.demo.solids import category_names, few, seeds


def digest(raw) -> str:
    return hashlib.sha256(raw.image.tobytes() + repr(sorted(raw.points.items())).encode()).hexdigest()


@few
@given(category=category_names, seed=seeds, size=st.integers(32, 200), index=st.integers(0, 10_000))
def test_an_object_fits_its_picture_and_keeps_most_keypoints_inside(category, seed, size, index):
    raw = demo.render_object(category, index, size=size, seed=seed)
    assert raw.image.shape == (size, size, 3) and raw.image.dtype == np.uint8
    assert set(raw.points) <= set(demo.CATEGORIES[category])
    assert len(raw.points) >= len(demo.CATEGORIES[category]) // 2
    assert all(0 <= x < size and 0 <= y < size for x, y in raw.points.values())


@few
@given(category=category_names, seed=seeds)
def test_size_is_resolution_alone(category, seed):
    small = demo.render_object(category, 0, size=48, seed=seed)
    large = demo.render_object(category, 0, size=96, seed=seed)
    assert set(small.points) == set(large.points)
    for name, point in small.points.items():
        np.testing.assert_allclose(2 * np.array(point), large.points[name], rtol=1e-9)


def test_a_picture_depends_on_seed_category_and_index_alone():
    again = [demo.render_object("bird", 4, size=64, seed=7) for _ in range(2)]
    assert digest(again[0]) == digest(again[1])
    others = [("bird", 5, 7), ("bird", 4, 8), ("chair", 4, 7)]
    assert all(digest(demo.render_object(c, k, size=64, seed=s)) != digest(again[0]) for c, k, s in others)


def test_another_process_renders_the_same_bytes():
    code = (
        "import hashlib; from nmt.data.readers.demo import render as demo\n"
        "raw = demo.render_object('lamp', 9, size=64, seed=1); "
        "print(hashlib.sha256(raw.image.tobytes() + repr(sorted(raw.points.items())).encode()).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "123", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(demo.render_object("lamp", 9, size=64, seed=1))


def test_every_object_of_the_list_has_its_category_split_and_id(monkeypatch):
    monkeypatch.setattr(demo, "OBJECTS_PER_CATEGORY", 2)
    rendered = [demo.render_object(c, index, size=32, seed=0) for c, index, _ in demo.object_list()]
    assert [(raw.category, raw.split) for raw in rendered] == [(c, split) for c, _, split in demo.object_list()]
    assert len({raw.id for raw in rendered}) == len({raw.photo for raw in rendered}) == 2 * len(demo.CATEGORIES)


def test_splits_are_disjoint_and_every_category_has_its_share_of_each():
    per_split = Counter((category, split) for category, _, split in demo.object_list())
    for category in demo.CATEGORIES:
        assert [per_split[category, split] for split in ("train", "val", "test")] == [84, 14, 14]


def test_positions_alone_do_not_solve_it():
    right = total = 0
    for category in demo.CATEGORIES:
        drawn = [demo.render_object(category, k, size=32, seed=0) for k in range(10)]
        for one, other in itertools.combinations(drawn, 2):
            names = sorted(set(one.points) & set(other.points))
            near, far = (np.array([raw.points[name] for name in names]) for raw in (one, other))
            near, far = ((p - p.mean(0)) / p.std(0) for p in (near, far))
            rows, columns = linear_sum_assignment(((near[:, None] - far) ** 2).sum(-1))
            right, total = right + int((rows == columns).sum()), total + len(names)
    assert 0.2 < right / total < 0.6


@pytest.mark.long
def test_a_short_training_solves_what_positions_and_nearest_features_do_not(tmp_path):
    small_recipe = {
        "data.name": "demo",
        "data.mode": "features",
        "data.image_size": 192,
        "data.pairs_per_step": 16,
        "data.eval_pairs": 60,
        "model.backbone": "tf_efficientnet_lite0",
        "model.weights": "package",
        "model.d_model": 128,
        "model.heads": 4,
        "model.decoder_layers": 2,
        "model.mlp_multiplier": 4.0,
        "model.feature_projection": 64,
        "optim.lr": 5e-3,
        "optim.milestones": [4],
        "train.epochs": 6,
        "train.steps_per_epoch": 35,
    }
    config = with_overrides(Config(), small_recipe, source="test")
    data = tmp_path / "demo"
    prepare(config, raw=None, out=data)
    add_features(data, config.model)
    train(config, data=data, directory=tmp_path / "run")
    for split in ("val", "test"):
        mean = evaluate_checkpoint(tmp_path / "run" / "best.pt", data=data, split=split).mean
        assert mean["positions"] < 0.65 and mean["nearest features"] < 0.65 and mean["NMT"] > 0.8, (split, mean)

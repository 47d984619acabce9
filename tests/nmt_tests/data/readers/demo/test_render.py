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
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment

from nmt.config import Config, with_overrides
from nmt.data.prepare.features import add_features
from nmt.data.prepare.objects import prepare
from nmt.data.readers.demo import render as demo
from nmt.data.readers.demo.kinds import KINDS
from nmt.data.readers.demo.mesh import Camera, Solid, looking, paint, rotation, unit, vector
from nmt.data.readers.demo.palette import Palette
from nmt.inference.evaluate import evaluate_checkpoint
from nmt.training.loop import train

few = settings(max_examples=25, deadline=None)
category_names = st.sampled_from(list(demo.CATEGORIES))
seeds = st.integers(0, 2**31 - 1)


def digest(raw) -> str:
    return hashlib.sha256(raw.image.tobytes() + repr(sorted(raw.points.items())).encode()).hexdigest()


def individual(category: str, seed: int) -> Solid:
    rng = np.random.default_rng(seed)
    return KINDS[category].build(rng, Palette(rng))


def normals(solid: Solid) -> np.ndarray:
    faces = solid.faces
    return np.cross(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1])


# --- what the data set promises ---


def test_six_categories_or_more_have_8_to_16_keypoints_and_every_twin_its_twin():
    assert len(demo.CATEGORIES) >= 6
    for names in demo.CATEGORIES.values():
        assert 8 <= len(names) <= 16 and len(set(names)) == len(names)
        left = {name.removeprefix("left_") for name in names if name.startswith("left_")}
        right = {name.removeprefix("right_") for name in names if name.startswith("right_")}
        assert left and left == right


@few
@given(category=category_names, seed=seeds)
def test_every_individual_has_all_keypoints_of_its_category_on_its_body(category, seed):
    solid = individual(category, seed)
    assert tuple(solid.points) == demo.CATEGORIES[category]
    corners = solid.faces.reshape(-1, 3)
    extent = np.ptp(corners, axis=0).max()
    for name, point in solid.points.items():
        away = np.linalg.norm(corners - point, axis=1).min() / extent
        assert away < 0.12, f"{name} is {away:.0%} of the object's size away from it"


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


# --- how it is drawn ---


@few
@given(seed=seeds)
def test_faces_of_convex_bodies_look_outwards(seed):
    rng = np.random.default_rng(seed)
    frame = rotation(0, rng.uniform(0, 6)) @ rotation(1, rng.uniform(0, 6)) @ rotation(2, rng.uniform(0, 6))
    centre, grey = rng.normal(size=3), vector(0.5, 0.5, 0.5)
    ball, box, rod, disc = Solid(), Solid(), Solid(), Solid()
    ball.ball(centre, rng.uniform(0.5, 2, 3), grey, frame=frame)
    box.box(centre, rng.uniform(0.5, 2, 3), grey, frame=frame)
    rod.limb(centre - frame[:, 0], centre + frame[:, 0], (0.3, 0.2), grey)
    disc.disc(centre, frame[:, 0], 1.0, 0.2, grey)
    for solid in (ball, box, rod, disc):
        assert (((solid.faces.mean(1) - centre) * normals(solid)).sum(1) > -1e-9).all()


@few
@given(category=category_names, seed=seeds)
def test_bodies_are_closed(category, seed):
    # the area vectors of a closed surface add up to zero
    area = normals(individual(category, seed))
    assert np.abs(area.sum(0)).max() < 1e-9 * np.abs(area).sum()


def test_the_nearer_body_covers_the_farther_one():
    scene = Solid()
    scene.ball(vector(1, 0, 0), 0.5, vector(1, 0, 0))
    scene.ball(vector(-1, 0, 0), 0.5, vector(0, 0, 1))
    for yaw, seen in ((0.0, "red"), (np.pi, "blue")):
        canvas = Image.new("RGB", (32, 32))
        camera = looking(yaw=yaw, pitch=0, roll=0, distance=8)
        camera = Camera(camera.rotation_33, 8, scale=12, offset_2=(16, 16))
        paint(ImageDraw.Draw(canvas), scene, camera, unit(vector(0, -1, -1)), gloss=0)
        red, _, blue = canvas.getpixel((16, 16))
        assert ("red" if red > blue else "blue") == seen


def test_yaw_0_looks_an_object_in_the_face_with_its_left_on_our_right():
    camera = looking(yaw=0, pitch=0, roll=0, distance=5)
    left, top, front = np.eye(3)[[1, 2, 0]]
    np.testing.assert_allclose(camera.project(left), [1, 0], atol=1e-12)
    np.testing.assert_allclose(camera.project(top), [0, -1], atol=1e-12)
    assert camera.view(front)[2] == pytest.approx(-1)


def test_a_look_from_above_shows_what_is_nearer_lower_and_what_is_nearer_larger():
    camera = looking(yaw=0, pitch=0.4, roll=0, distance=5)
    assert camera.project(vector(1, 0, 0))[1] > camera.project(vector(-1, 0, 0))[1]
    assert camera.project(vector(1, 1, 0))[0] > camera.project(vector(-1, 1, 0))[0]


def test_marks_are_warm_on_the_left_and_cool_on_the_right():
    palette = Palette(np.random.default_rng(0))
    left, right = (np.stack([palette.mark(sign) for _ in range(50)]) for sign in (1.0, -1.0))
    assert (left[:, 0] > left[:, 2]).all() and (right[:, 2] > right[:, 0]).all()

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from nmt.data.readers.demo.mesh import Camera, Solid, looking, paint, rotation, silhouette, unit, vector
from tests.nmt_tests.data.readers.demo.solids import few, normals, seeds


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


@few
@given(st.sampled_from([0, 1, 2]), st.floats(-7, 7))
def test_rotations_are_scipys(axis, angle):
    expected = Rotation.from_rotvec(angle * np.eye(3)[axis]).as_matrix()
    np.testing.assert_allclose(rotation(axis, angle), expected, atol=1e-12)


def test_unit_of_vectors_is_their_direction_and_of_zero_is_zero():
    vectors = np.random.default_rng(0).normal(size=(5, 2, 3))
    np.testing.assert_allclose(unit(vectors), vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
    assert (unit(np.zeros(3)) == 0).all()


@few
@given(seed=seeds)
def test_without_distance_a_picture_is_a_scaled_projection(seed):
    rng = np.random.default_rng(seed)
    camera = looking(yaw=rng.uniform(-3, 3), pitch=rng.uniform(-1, 1), roll=rng.uniform(-1, 1), distance=1e9)
    camera = Camera(camera.rotation_33, camera.distance, scale=20, offset_2=(7, 8))
    points = rng.normal(size=(6, 3))
    np.testing.assert_allclose(camera.project(points), 20 * camera.view(points)[:, :2] + (7, 8), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(camera.view(points), axis=1), np.linalg.norm(points, axis=1))


def test_texture_changes_the_tone_of_faces_and_nothing_else():
    plain, textured = Solid(), Solid()
    for solid in (plain, textured):
        solid.ball(vector(0, 0, 0), 1.0, vector(0.5, 0.4, 0.3))
    textured.texture(np.random.default_rng(0), 0.1)
    np.testing.assert_array_equal(textured.faces, plain.faces)
    tone = textured.colours / plain.colours
    np.testing.assert_allclose(tone, tone[:, :1] * np.ones(3))
    assert 0.02 < tone[:, 0].std() < 0.2 and (textured.colours <= 1).all()


def test_what_is_raised_is_painted_over_what_hides_it():
    picture = {}
    for lift in (0.0, 1.0):
        scene = Solid()
        scene.box(vector(0, 0, 0), 1.0, vector(1, 0, 0))
        with scene.raised(lift):
            scene.box(vector(0.9, 0, 0), 0.05, vector(0, 0, 1))  # inside the front of the red box
        canvas = Image.new("RGB", (64, 64))
        camera = Camera(looking(yaw=0, pitch=0, roll=0, distance=8).rotation_33, 8, scale=20, offset_2=(32, 32))
        paint(ImageDraw.Draw(canvas), scene, camera, unit(vector(0, -1, -1)), gloss=0)
        picture[lift] = canvas.getpixel((32, 32))
    assert picture[0.0][0] > picture[0.0][2] and picture[1.0][2] > picture[1.0][0]


def test_a_shadow_falls_straight_below_a_body_when_the_sun_is_above_it():
    solid = Solid()
    solid.ball(vector(0, 0, 2), 0.5, vector(1, 1, 1), sides=24)
    canvas = Image.new("L", (100, 100))
    above = Camera(np.diag([1.0, -1.0, -1.0]), 1e9, scale=40, offset_2=(50, 50))  # looks down along z
    silhouette(ImageDraw.Draw(canvas), solid, above, vector(0, 0, -1.0), 0.0)
    dark = np.argwhere(np.asarray(canvas) == 255)
    np.testing.assert_allclose(dark.mean(0), [50, 50], atol=1)
    assert len(dark) == pytest.approx(np.pi * 20**2, rel=0.1)

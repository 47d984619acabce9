from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from PIL import Image, ImageDraw

from nmt.data.readers.demo.mesh import Camera, Solid, looking, paint, rotation, unit, vector
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

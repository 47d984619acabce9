from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nmt.errors import UserError
from nmt.inference.inputs import check_keypoints, read_image, read_keypoint_file

IMAGE = np.zeros((40, 60, 3), np.uint8)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_array_that_is_no_image_says_its_shape_and_type(array):
    with pytest.raises(UserError, match=r"source image: an array must be \(H, W, 3\) of uint8, but got"):
        read_image(array, source="source image")


def test_a_file_is_read_upright_and_a_grey_one_in_colour(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("L", (60, 40), 7).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", source="").shape == (60, 40, 3)
    assert read_image(Image.open(tmp_path / "turned.jpg"), source="").shape == (60, 40, 3)


def test_a_missing_or_unreadable_image_is_named(tmp_path):
    (tmp_path / "notes.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"notes.jpg: not a readable image"):
        read_image(tmp_path / "notes.jpg", source="")
    with pytest.raises(UserError, match=r"absent.jpg: no such image"):
        read_image(str(tmp_path / "absent.jpg"), source="")


def test_keypoints_on_the_border_are_inside():
    keypoints = check_keypoints({"a": (0, 0), "b": (60, 40)}, IMAGE, source="")
    assert keypoints.names == ("a", "b") and keypoints.points_N2.tolist() == [[0, 0], [60, 40]]


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ({"a": (1, 1), "tail": (61, 1)}, "keypoint 'tail' lies outside the image of 60 x 40 pixels"),
        ([(1, 1), (1, 41)], r"keypoint 1 at \(1.0, 41.0\) lies outside"),
        ([(1, 1), (1, float("nan"))], "keypoint 1"),
        ([(1, 1)], "1 keypoints; matching needs at least two"),
        ({}, "0 keypoints"),
        (np.zeros((2, 3)), r"must be \(N, 2\) pixels \(x, y\), but got shape \(2, 3\)"),
        (np.zeros(4), r"shape \(4,\)"),
        ({"a": (1, 1), "b": ("left", 2)}, r"must be \(N, 2\) numbers"),
        ([(1, 1), (1,)], r"must be \(N, 2\) numbers"),
    ],
)
def test_wrong_keypoints_are_one_line(keypoints, message):
    with pytest.raises(UserError, match=f"^where: .*{message}") as raised:
        check_keypoints(keypoints, IMAGE, source="where")
    assert "\n" not in str(raised.value)


def test_a_keypoint_file_with_and_without_its_first_line(tmp_path):
    file = tmp_path / "a.csv"
    for first in ("name,x,y\n", ""):
        file.write_text(f"{first}nose,10,20.5\n\ntail,60,30\n")
        assert read_keypoint_file(file) == {"nose": (10.0, 20.5), "tail": (60.0, 30.0)}
    file.write_text("nose,10,20\ntail,6O,30\n")
    with pytest.raises(UserError, match=r"a.csv:2: expected name,x,y in pixels, but got 'tail,6O,30'"):
        read_keypoint_file(file)
    with pytest.raises(UserError, match=r"b.csv: not a readable keypoint file"):
        read_keypoint_file(tmp_path / "b.csv")

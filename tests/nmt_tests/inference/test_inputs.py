from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nmt.errors import UserError
from nmt.inference.inputs import check_keypoints, read_image

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


@pytest.mark.parametrize("image", [None, 7, ["a.jpg"], b"a.jpg", [[0, 1]]])
def test_what_is_no_image_at_all_is_named(image):
    with pytest.raises(UserError, match="^source image: expected a path, a PIL image or an array, but got "):
        read_image(image, source="source image")


def test_a_file_and_the_same_image_of_pillow_are_the_same_array(tmp_path):
    values = Image.fromarray((np.arange(24).reshape(4, 6) * 1000).astype(np.uint16))
    values.save(tmp_path / "grey.png")
    from_file = read_image(str(tmp_path / "grey.png"), source="")
    assert (
        from_file.dtype == np.uint8 and from_file.shape == (4, 6, 3) and from_file.min() == 0 and from_file.max() == 255
    )
    assert np.array_equal(from_file, read_image(values, source=""))
    with pytest.raises(UserError, match=r"^source image: not a readable image .it holds NaN"):
        read_image(Image.new("F", (4, 3), float("nan")), source="source image")


def test_keypoints_on_the_border_are_inside():
    keypoints = check_keypoints({"a": (0, 0), "b": (60, 40)}, IMAGE, source="")
    assert keypoints.names == ("a", "b") and keypoints.points_N2.tolist() == [[0, 0], [60, 40]]


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ({"a": (1, 1), "tail": (61, 1)}, "keypoint 'tail' lies outside the image of 60 x 40 pixels"),
        ([(1, 1), (1, 41)], r"keypoint 1 at \(1.0, 41.0\) lies outside"),
        ([(1, 1), (1, float("nan"))], r"keypoint 1 at \(1.0, nan\) is NaN or infinite; leave out what is not labelled"),
        ({"a": (1, 1), "b": (float("inf"), 2)}, "keypoint 'b' is NaN or infinite"),
        (
            [(0.1, 0.5), (1, 0.2)],
            "all coordinates lie between 0 and 1, but pixels are read; multiply x by .* 60, and y",
        ),
        (None, r"shape \(\)"),
        (7, r"shape \(\)"),
        ("nose", r"must be \(N, 2\) numbers"),
        (np.zeros((0, 2)), "0 keypoints"),
        ([(1, 10**400), (2, 2)], r"must be \(N, 2\) numbers"),
        ([(1, 1)], "1 keypoint; matching needs at least two"),
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


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 7)])
def test_an_image_with_nothing_to_see_is_one_line(shape):
    with pytest.raises(UserError, match=rf"a\.csv: their image has {shape[1]} x {shape[0]} pixels, but at least 8 x 8"):
        check_keypoints({"a": (0, 0), "b": (1, 1)}, np.zeros((*shape, 3), np.uint8), source="a.csv")

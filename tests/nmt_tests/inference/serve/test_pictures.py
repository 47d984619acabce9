from __future__ import annotations

import numpy as np
import pytest

from nmt.inference.serve import pictures
from nmt.inference.serve.pictures import GoneError, Pictures


def test_the_same_content_is_the_same_picture_and_is_decoded_once(picture, encode, monkeypatch):
    held = Pictures(64)
    first = held.add(encode(picture), "a.png")
    monkeypatch.setattr(pictures, "decode_image", None)
    assert held.add(encode(picture), "b.png") is first is held.get(first.id)


def test_the_picture_used_longest_ago_leaves_first(encode, monkeypatch):
    monkeypatch.setattr(pictures, "KEPT", 2)
    held = Pictures(8)
    ids = [held.add_array(np.full((4, 6, 3), k, np.uint8)).id for k in range(2)]
    held.get(ids[0])
    held.add_array(np.full((4, 6, 3), 2, np.uint8))
    assert held.get(ids[0]).width == 6
    with pytest.raises(GoneError):
        held.get(ids[1])


def test_points_move_to_the_square_and_stay_inside(encode):
    picture = Pictures(64).add_array(np.zeros((7, 3, 3), np.uint8))
    assert picture.square_SS3.shape == (64, 64, 3)
    assert picture.to_square(np.array([[0.0, 0.0], [1.5, 3.5], [3.0, 7.0]])).tolist() == [[0, 0], [32, 32], [64, 64]]


def test_a_large_picture_is_shown_smaller_in_its_proportions(picture):
    import io

    from PIL import Image

    large = Pictures(64).add_array(np.asarray(Image.fromarray(picture).resize((4000, 1000))))
    assert (large.width, large.height) == (4000, 1000)
    assert Image.open(io.BytesIO(large.jpeg)).size == (1600, 400)

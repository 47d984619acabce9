from __future__ import annotations

import dataclasses

import numpy as np

from nmt.inference.pictures import (
    GAP,
    HOLLOW,
    LABEL,
    LEGEND,
    RAMP,
    RIGHT,
    UNKNOWN,
    WRONG,
    MatchedPair,
    colour_of,
    draw_pair,
    draw_sheet,
)


def pair(shape0: tuple[int, int], shape1: tuple[int, int]) -> MatchedPair:
    """Two grey images; the centre of the first matches the last pixel of the second."""
    return MatchedPair(
        image0_HW3=np.full((*shape0, 3), 90, np.uint8),
        image1_HW3=np.full((*shape1, 3), 180, np.uint8),
        points0_N2=np.array([[shape0[1] / 2, shape0[0] / 2]]),
        points1_M2=np.array([[0.0, 0.0], [shape1[1] - 1, shape1[0] - 1]]),
        predicted_N=np.array([1]),
        match_N=None,
        label="",
    )


def has(drawn: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Return True if a pixel has exactly this colour."""
    return bool((drawn == colour).all(axis=-1).any())


def test_images_keep_their_proportions_and_the_points_their_places():
    drawn = draw_pair(pair((50, 200), (160, 80)), side=100)  # 100 x 25 and 50 x 100 in the picture
    assert drawn.shape == (100 + LABEL + LEGEND, 100 + GAP + 50, 3)
    grey = (drawn == 90).all(axis=2)
    assert grey[LABEL : LABEL + 25, :100].sum() > 2000 and not grey[LABEL + 25 :].any()
    assert (drawn == 180).all(axis=2)[LABEL:, 100 + GAP :].sum() > 4000
    for x, y in ((50, LABEL + 12.5), (100 + GAP + 49.4, LABEL + 99.4)):
        assert tuple(drawn[int(y), int(x)]) == UNKNOWN


def test_square_images_and_sheets_of_them_have_one_size():
    square = pair((64, 64), (64, 64))
    assert draw_pair(square, side=160, legend=False).shape == (160 + LABEL, 2 * 160 + GAP, 3)
    assert draw_sheet([square] * 3, side=160).shape == (2 * (160 + LABEL), 2 * (2 * 160 + GAP), 3)


def test_colours_say_right_and_wrong_where_the_truth_is_known_and_confidence_elsewhere():
    square = pair((64, 64), (64, 64))
    for truth, colour, other in ((1, RIGHT, WRONG), (0, WRONG, RIGHT), (-1, WRONG, RIGHT)):
        drawn = draw_pair(dataclasses.replace(square, match_N=np.array([truth])), side=96, legend=False)
        assert has(drawn, colour) and not has(drawn, other)
    for confidence, colour in ((0.0, RAMP[0]), (0.5, RAMP[1]), (1.0, RAMP[2])):
        drawn = draw_pair(dataclasses.replace(square, confidence_N=np.array([confidence])), side=96, legend=False)
        assert has(drawn, colour) and not has(drawn, UNKNOWN)
    assert colour_of(-1) == RAMP[0] and colour_of(2) == RAMP[-1] and colour_of(0.75) == (128, 196, 131)


def test_a_point_without_a_match_is_hollow():
    none = dataclasses.replace(pair((64, 64), (64, 64)), predicted_N=np.array([-1]))
    drawn = draw_pair(none, side=96)
    assert tuple(drawn[LABEL + 48, 48]) == (90, 90, 90)  # the image shows through
    assert has(drawn, HOLLOW) and not has(drawn, UNKNOWN)


def test_names_are_drawn_from_a_size_on_at_which_they_can_be_read():
    plain = pair((64, 64), (64, 64))
    named = dataclasses.replace(plain, names0=["left_front_wheel_of_it"], names1=["鼻", ""])
    assert not np.array_equal(draw_pair(plain, side=256), draw_pair(named, side=256))
    assert np.array_equal(draw_pair(plain, side=160), draw_pair(named, side=160))


def test_pictures_of_one_pixel_are_drawn():
    assert draw_pair(pair((1, 1), (1, 300)), side=64).shape[2] == 3

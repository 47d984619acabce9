from __future__ import annotations

import numpy as np

from nmt.inference.pictures import GAP, LABEL, UNKNOWN, MatchedPair, draw_pair, draw_sheet


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


def test_images_keep_their_proportions_and_the_points_their_places():
    drawn = draw_pair(pair((50, 200), (160, 80)), side=100)  # 100 x 25 and 50 x 100 in the picture
    assert drawn.shape == (100 + LABEL, 100 + GAP + 50, 3)
    grey = (drawn == 90).all(axis=2)
    assert grey[LABEL : LABEL + 25, :100].sum() > 2000 and not grey[LABEL + 25 :].any()
    assert (drawn == 180).all(axis=2)[LABEL:, 100 + GAP :].sum() > 4000
    for x, y in ((50, LABEL + 12.5), (100 + GAP + 49.4, LABEL + 99.4)):
        assert tuple(drawn[int(y), int(x)]) == UNKNOWN


def test_square_images_and_sheets_of_them_have_one_size():
    square = pair((64, 64), (64, 64))
    assert draw_pair(square, side=160).shape == (160 + LABEL, 2 * 160 + GAP, 3)
    assert draw_sheet([square] * 3, side=160).shape == (2 * (160 + LABEL), 2 * (2 * 160 + GAP), 3)

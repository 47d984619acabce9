from __future__ import annotations

import numpy as np

from nmt.data.readers.demo.palette import Palette


def test_marks_are_warm_on_the_left_and_cool_on_the_right():
    palette = Palette(np.random.default_rng(0))
    left, right = (np.stack([palette.mark(sign) for _ in range(50)]) for sign in (1.0, -1.0))
    assert (left[:, 0] > left[:, 2]).all() and (right[:, 2] > right[:, 0]).all()

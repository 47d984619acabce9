"""Paints of the demo's individuals."""

import colorsys
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.readers.demo.palette import HUE_JITTER, HUE_SPREAD, Palette, swing
from tests.nmt_tests.data.readers.demo.solids import few, seeds


def test_marks_are_warm_on_the_left_and_cool_on_the_right():
    palette = Palette(np.random.default_rng(0))
    left, right = (np.stack([palette.mark(sign) for _ in range(50)]) for sign in (1.0, -1.0))
    assert (left[:, 0] > left[:, 2]).all() and (right[:, 2] > right[:, 0]).all()


@few
@given(seed=seeds, hue=st.floats(0, 1), saturation=st.floats(0, 1), value=st.floats(0, 1))
def test_every_paint_is_a_colour_and_none_is_black(seed, hue, saturation, value):
    palette = Palette(np.random.default_rng(seed))
    paints = np.stack([palette.colour(hue, saturation, value), palette.mark(1.0), palette.mark(-1.0), palette.skin()])
    assert paints.shape == (4, 3) and (paints >= 0).all() and (paints <= 1).all()
    assert (paints.max(1) >= 0.12 - 1e-9).all()


def test_an_individual_shifts_a_hue_less_than_families_of_hues_are_apart():
    shifts = []
    for seed in range(300):
        hue, _, _ = colorsys.rgb_to_hsv(*Palette(np.random.default_rng(seed)).colour(0.5, 0.9, 0.9))
        shifts.append(hue - 0.5)
    # the two deviations of one part, squared and added
    assert np.std(shifts) == pytest.approx(np.hypot(HUE_SPREAD, HUE_JITTER), rel=0.15) and abs(np.mean(shifts)) < 0.02


@few
@given(seed=seeds, count=st.integers(1, 9))
def test_bands_are_plain_or_alternate_from_the_first(seed, count):
    first, second = np.zeros(3), np.ones(3)
    bands = Palette(np.random.default_rng(seed)).bands(first, second, count)
    assert bands.shape == (count, 3) and (bands[0] == 0).all()
    lengths = [len(list(run)) for _, run in itertools.groupby(bands[:, 0])]
    assert len(lengths) == 1 or (len(set(lengths[:-1])) == 1 and lengths[-1] <= lengths[0] <= 2)


@given(st.floats(0.1, 5), st.floats(-1.5, 1.5), st.floats(0, 1.5), st.sampled_from([1.0, -1.0]))
def test_a_swung_limb_keeps_its_length_and_goes_to_its_side(length, forward, outward, sign):
    reach = swing(length, forward, outward, sign)
    assert np.linalg.norm(reach) == pytest.approx(length)
    assert reach[1] == pytest.approx(sign * length * np.sin(outward))
    np.testing.assert_allclose(swing(length, 0, 0, sign), [0, 0, -length], atol=1e-12)

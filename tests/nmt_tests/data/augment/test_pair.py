import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from nmt.config import DataConfig
from nmt.data.augment.pair import augment_pair, covered, cutmix_box, erase, erasing_boxes, mix, mixup_weight, paste

OFF = DataConfig(erasing=0.0, cutmix=0.0, mixup=0.0)
SIZE = 384
seeds = strategies.integers(0, 2**32)


def image(value: int, size: int = SIZE) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


@given(seeds)
def test_erasing_cuts_one_or_two_holes_of_20_to_40_pixels_inside_a_384_image(seed):
    boxes = erasing_boxes(np.random.default_rng(seed), SIZE)
    assert len(boxes) in (1, 2)
    for x0, y0, x1, y1 in boxes:
        assert 20 <= x1 - x0 <= 40 and 20 <= y1 - y0 <= 40
        assert min(x0, y0) >= 0 and max(x1, y1) <= SIZE


@given(seeds, strategies.sampled_from([32, 128, 384]))
def test_cutmix_takes_at_most_three_tenths_of_the_side(seed, size):
    x0, y0, x1, y1 = cutmix_box(np.random.default_rng(seed), size)
    assert 0 <= x0 <= x1 <= size and 0 <= y0 <= y1 <= size
    assert max(x1 - x0, y1 - y0) <= 0.3 * size


@given(seeds)
def test_mixup_keeps_40_to_60_percent_of_the_image(seed):
    assert 0.4 <= mixup_weight(np.random.default_rng(seed)) <= 0.6


def test_mix_is_the_rounded_weighted_mean():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(2))
    exact = 0.4375 * first + 0.5625 * second  # 112 / 256
    assert mix(first, second, 0.4375).dtype == np.uint8
    assert np.abs(mix(first, second, 0.4375) - exact).max() <= 0.5
    assert (mix(image(255), image(255), 0.6) == 255).all()


def test_erase_and_paste_change_their_box_alone():
    box = (10, 20, 14, 22)
    inside = np.zeros((SIZE, SIZE), bool)
    inside[20:22, 10:14] = True
    assert ((erase(image(9), [box]) == 0).all(axis=2) == inside).all()
    assert ((paste(image(9), image(3), box) == 3).all(axis=2) == inside).all()


def test_covered_includes_the_upper_left_border_alone():
    points = np.array([(10, 20), (13.9, 21.9), (14, 21), (13, 22), (9.9, 21)])
    assert covered(points, [(10, 20, 14, 22)]).tolist() == [True, True, False, False, False]


@settings(deadline=None)
@given(seeds, strategies.integers(2, 6), strategies.integers(5, 60))
def test_at_least_two_keypoints_are_left_and_no_visible_one_is_dropped(seed, num, spread):
    rng = np.random.default_rng(seed)
    points = 40 + rng.random((num, 2)) * spread  # crowded, so that one hole can cover all of them
    config = dataclasses.replace(OFF, erasing=1.0, cutmix=1.0)
    source = image(200, 128)
    result = augment_pair(rng, source, image(100, 128), points, other_image=lambda: image(50, 128), config=config)
    assert result.keep_N.sum() >= 2
    x, y = points[result.keep_N].astype(int).T
    assert (result.image0_HW3[y, x] == 200).all()
    x, y = points[~result.keep_N].astype(int).T
    assert (result.image0_HW3[y, x] != 200).all()
    assert (result.image1_HW3 == 100).all() and (source == 200).all()


def test_off_changes_nothing_and_decodes_no_other_image():
    def never() -> np.ndarray:
        pytest.fail("decoded another image")

    source, target = image(1), image(2)
    result = augment_pair(np.random.default_rng(0), source, target, np.ones((3, 2)), other_image=never, config=OFF)
    assert result.image0_HW3 is source and result.image1_HW3 is target and result.keep_N.all()


def test_mixup_mixes_each_side_with_an_image_of_its_own():
    others = iter([image(0), image(100)])
    result = augment_pair(
        np.random.default_rng(0),
        image(200),
        image(200),
        np.ones((3, 2)),
        other_image=lambda: next(others),
        config=dataclasses.replace(OFF, mixup=1.0),
    )
    assert 80 <= result.image0_HW3[0, 0, 0] <= 120 and 140 <= result.image1_HW3[0, 0, 0] <= 160
    assert result.keep_N.all()


@pytest.mark.parametrize("key", ["erasing", "cutmix", "mixup"])
def test_probability_is_the_configured_one(key):
    rng = np.random.default_rng(0)
    config = dataclasses.replace(OFF, **{key: 0.3})
    changed = 0
    for _ in range(400):
        source = image(200, 32)
        points = np.array([(0.0, 0.0), (31.0, 31.0), (0.0, 31.0), (31.0, 0.0), (16.0, 16.0)])
        result = augment_pair(rng, source, source, points, other_image=lambda: image(0, 32), config=config)
        changed += result.image0_HW3 is not source
    assert abs(changed / 400 - 0.3) < 0.08

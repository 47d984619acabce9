from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nmt.data.readers.base import (
    NOT_FINITE,
    OUTSIDE_BOX,
    OUTSIDE_IMAGE,
    Entry,
    Excluded,
    RawListing,
    checked_box,
    load,
    points_within,
)
from nmt.errors import UserError


def dots(points: list[tuple[float, float]], size: tuple[int, int] = (60, 40)) -> Image.Image:
    """A black photograph with a bright dot in a colour channel for each point."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    pixels = np.stack([255 * ((x - px) ** 2 + (y - py) ** 2 < 5) for px, py in points], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(box=st.none() | st.tuples(st.floats(0, 12), st.floats(0, 8), st.floats(48, 60), st.floats(32, 40)))
def test_keypoints_follow_the_image_into_the_square(tmp_path, box):
    points = [(20.0, 12.0), (40.0, 16.0), (30.0, 28.0)]
    dots(points).save(tmp_path / "dots.png")
    named = {str(k): xy for k, xy in enumerate(points)}
    found = load(Entry("i", "c", "train", "p", tmp_path / "dots.png", named, box), size=80)
    y, x = np.mgrid[:80, :80] + 0.5
    for channel, (px, py) in enumerate(found.points.values()):
        weight = found.image[..., channel].astype(float)
        assert abs((weight * x).sum() / weight.sum() - px) < 0.6 and abs((weight * y).sum() / weight.sum() - py) < 0.6


numbers = st.floats(-20, 80) | st.sampled_from([0.0, 40.0, 60.0, float("nan"), float("inf"), 1e300])


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    points=st.dictionaries(st.sampled_from("abcdef"), st.tuples(numbers, numbers)),
    box=st.none() | st.tuples(numbers, numbers, numbers, numbers),
)
def test_whatever_the_annotation_says_the_object_fits_the_store_or_is_left_out(tmp_path, points, box):
    path = tmp_path / "image.png"
    if not path.exists():
        Image.new("RGB", (60, 40)).save(path)
    try:
        cut = checked_box(*box) if box else None
        found = load(Entry("i", "c", "train", "p", path, points_within(points, cut), cut), size=32)
    except Excluded:
        return
    points_N2 = np.array(list(found.points.values()), np.float32)
    assert found.image.shape == (32, 32, 3) and found.image.dtype == np.uint8 and len(points_N2) >= 2
    assert np.isfinite(points_N2).all() and (points_N2 >= 0).all() and (points_N2 <= 32).all()


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        (None, None),
        ((10.0, 5.0, 30.0, 15.0), (20, 10)),
        ((-3.0, -3.0, 64.0, 20.0), (60, 20)),
        ((-1e300, 0.0, 1e300, 40.0), (60, 40)),
        ((61.0, 0.0, 90.0, 40.0), None),
    ],
)
def test_the_box_of_an_object_is_cut_at_the_edges_of_the_photograph(tmp_path, box, sides):
    Image.new("RGB", (60, 40)).save(tmp_path / "image.png")
    points = {"a": (12.0, 6.0), "b": (20.0, 9.0)}
    entry = Entry("i", "c", "train", "p", tmp_path / "image.png", points, (10.0, 4.0, 34.0, 16.0), object_box=box)
    found = load(entry, size=32)
    assert (found.shown, found.box) == ((24, 12), sides)


def entries(*objects: tuple[str, str, str]) -> list[Entry]:
    """(split, photo, keypoint letters)"""
    return [
        Entry(f"{k}", "c", split, photo, Path(photo), dict.fromkeys(letters, (1.0, 1.0)))
        for k, (split, photo, letters) in enumerate(objects)
    ]


def test_objects_without_a_partner_are_left_out_and_counted():
    pair = [("val", "p", "ab"), ("val", "q", "ab")]
    alone = [("train", "z", "xy"), ("train", "u", "ax"), ("test", "t", "abc")]
    same_photo = [("train", "s", "gh"), ("train", "s", "gh")]
    listing = RawListing(entries(("train", "a", "abc"), ("train", "b", "bcd"), *alone, *same_photo, *pair))
    listing.drop_unpaired(Path("raw"))
    assert [entry.photo for entry in listing.entries] == ["a", "b", "p", "q"]
    assert listing.left_out == {"no other photograph with 2 common keypoints": 5}


def test_dropped_keypoints_are_counted_by_reason(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "image.png")
    points = {"a": (1.0, 1.0), "b": (30.0, 30.0), "nan": (float("nan"), 1.0), "out": (61.0, 1.0), "box": (50.0, 5.0)}
    left_out: Counter[str] = Counter()
    entry = Entry("i", "c", "train", "p", tmp_path / "image.png", points, box=(0, 0, 40, 40))
    assert list(load(entry, size=40, left_out=left_out).points) == ["a", "b"]
    by_reason = {NOT_FINITE: 1, OUTSIDE_IMAGE: 1, OUTSIDE_BOX: 1}
    assert left_out == by_reason
    again: Counter[str] = Counter()
    assert list(points_within(points, (0, 0, 40, 40), again)) == ["a", "b"] and again == {NOT_FINITE: 1, OUTSIDE_BOX: 2}


def test_keypoints_are_counted_where_the_object_is_left_out_too(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "image.png")
    left_out: Counter[str] = Counter()
    larger = Entry(
        "i", "c", "train", "p", tmp_path / "image.png", {"a": (600.0, 1.0), "b": (9.0, 99.0)}, (500, 9, 900, 99)
    )
    with pytest.raises(Excluded, match="an empty box"):
        load(larger, size=40, left_out=left_out)
    assert left_out == {OUTSIDE_IMAGE: 2}


@pytest.mark.parametrize("split", ["train", "val"])
def test_nothing_to_train_or_validate_on_is_said(split):
    other = "val" if split == "train" else "train"
    listing = RawListing(entries((split, "a", "ab"), (other, "b", "ab"), (other, "c", "ab")))
    with pytest.raises(UserError, match=f"raw: no two photographs .* in split {split}; left out: [12] no other"):
        listing.drop_unpaired(Path("raw"))

from collections import Counter
from pathlib import Path

import pytest

from nmt.data.readers.base import Entry
from nmt.data.readers.own.splits import as_split, fill_splits, split_in_name
from nmt.errors import UserError

RAW = Path("raw")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_annotations.json", "train"),
        ("ap10k-train-split1.json", "train"),
        ("person_keypoints_val2017.json", "val"),
        ("train/_annotations.coco.json", "train"),
        ("valid/_annotations.coco.json", "val"),
        ("annotations/Validation.json", "val"),
        ("birdsTest.csv", "test"),
        ("TEST.CSV", "test"),
        ("train/val.json", "val"),
        ("latest.json", ""),
        ("trainers/points.json", ""),
        ("contest.csv", ""),
        ("points.csv", ""),
    ],
)
def test_the_word_of_a_split_is_read_wherever_it_stands(name, split):
    assert split_in_name(RAW / name, RAW) == split


def test_the_name_of_the_raw_folder_is_no_split():
    assert split_in_name(Path("train/points.csv"), Path("train")) == ""


def test_a_name_with_two_splits_is_refused():
    with pytest.raises(UserError, match=r"raw/train_val\.json: its name holds .* several splits, train and val"):
        split_in_name(RAW / "train_val.json", RAW)


@pytest.mark.parametrize(
    ("value", "split"), [("Train", "train"), ("valid", "val"), (" TEST ", "test"), ("", ""), (None, ""), ("  ", "")]
)
def test_values_are_read_in_any_case(value, split):
    assert as_split(value, "here") == split


@pytest.mark.parametrize("value", ["dev", "trian", 3, ["train"], True])
def test_other_values_are_refused(value):
    with pytest.raises(UserError, match="^here: no split"):
        as_split(value, "here")


def entries(photos: dict[str, str], category: str = "bird", keypoints: str = "abc") -> list[Entry]:
    points = dict.fromkeys(keypoints, (1.0, 1.0))
    return [Entry(f"{category}/{p}", category, split, p, Path(p), points) for p, split in photos.items()]


@pytest.mark.parametrize(("num", "expected"), [(12, (8, 2, 2)), (20, (16, 2, 2)), (40, (32, 4, 4)), (6, (2, 2, 2))])
def test_small_sets_keep_two_photographs_in_every_split(num, expected):
    for naming in range(100):
        filled, note = fill_splits(entries({f"{naming}-{k}": "" for k in range(num)}), [""])
        counts = Counter(entry.split for entry in filled)
        assert (counts["train"], counts["val"], counts["test"]) == expected
        assert note.startswith("splits: none is given; divided within each category")


def test_val_comes_from_train_only_where_no_object_had_it():
    given = {f"{k}": "train" for k in range(20)} | {f"t{k}": "test" for k in range(5)}
    filled, note = fill_splits(entries(given), ["train", "test"])
    assert Counter(entry.split for entry in filled) == {"train": 18, "val": 2, "test": 5}
    assert "a tenth of train becomes val" in note
    filled, note = fill_splits(entries(given), ["train", "val", "test"])  # all of val was left out
    assert Counter(entry.split for entry in filled) == {"train": 20, "test": 5} and note == ""


def test_images_without_a_split_are_divided_among_themselves():
    given = {f"{k}": "val" for k in range(4)} | {f"n{k}": "" for k in range(10)}
    filled, note = fill_splits(entries(given), ["val", ""])
    assert {e.photo for e in filled if e.split == "val"} >= {"0", "1", "2", "3"}
    assert all(entry.split for entry in filled) and "10 of 14 images have none" in note


def test_a_photograph_in_two_splits_is_refused():
    twice = entries({"a": "train"}) + entries({"a": "val"}, category="cat")
    with pytest.raises(UserError, match="a: its objects are in train and in val; an image has one split"):
        fill_splits(twice, ["train", "val"])

"""Joining shards: what loading leaves without a partner is left out, and what cannot be trained on is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.data.prepare.join import join_shards
from nmt.data.prepare.shards import RowMaker, in_shards, make_shards
from nmt.data.readers.base import NO_PARTNER, OUTSIDE_IMAGE, Entry
from nmt.data.readers.registry import Loaded, RawDataSet
from nmt.data.store.objects import ObjectStore, StoreInfo
from nmt.data.store.verify import check
from nmt.data.store.writer import RawObject
from nmt.errors import UserError

NAMES = {"cat": list("abcd"), "dog": list("abcd")}
SIZE = 16
WANTED = {"name": "x", "image_size": SIZE, "image_coding": "raw", "options": {}, "seed": 0, "fingerprint": "0"}
Task = tuple[str, str, str, str]
"""category, split, photograph, letters of its keypoints; "-" for one that was outside the image"""


def load(task: Task) -> Loaded:
    category, split, photo, letters = task
    left_out = Counter({OUTSIDE_IMAGE: letters.count("-")})
    if len(letters.replace("-", "")) < 2:
        return [], left_out + Counter({"few": 1})
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    points = {name: (1.0 + k, 2.0 * k % 3) for k, name in enumerate(letters.replace("-", ""))}
    return [RawObject(f"{category}/{photo}", category, split, photo, image, points)], left_out


def joined(tmp_path: Path, tasks: list[Task], **options: Any) -> StoreInfo:
    source = RawDataSet(lambda: "", lambda: NAMES, tasks, load, **{"every_split": False} | options)
    shards, folder, out = in_shards(tasks), tmp_path / "shards", tmp_path / "out"
    assert len(list(make_shards(RowMaker(load, NAMES, SIZE, "raw"), shards, folder))) == len(shards)
    return join_shards(source, shards, folder, out, WANTED, where="raw")


def category(name: str, letters: str, *, num: int = 2, splits: tuple[str, ...] = ("train", "val")) -> list[Task]:
    return [(name, split, f"{split}{k}", letters) for split in splits for k in range(num)]


def test_categories_in_the_same_photographs_are_kept(tmp_path: Path) -> None:
    info = joined(tmp_path, [*category("cat", "abc"), *category("dog", "abcd")])
    assert info.counts["train"] == {"cat": 2, "dog": 2} and info.left_out == {}
    store = ObjectStore.open(tmp_path / "out")
    assert len(np.unique(store.photo)) == 4 and check(tmp_path / "out").rows == 8


def test_every_category_in_every_split_counts_each_shared_photograph(tmp_path: Path) -> None:
    tasks = category("cat", "abc", splits=("train", "val", "test"))
    tasks += category("dog", "abcd", splits=("train", "val", "test"))
    assert joined(tmp_path, tasks, every_split=True).num_objects == 12


def test_what_loses_its_partner_while_loading_is_left_out_and_counted(tmp_path: Path) -> None:
    many = [*category("cat", "abc", num=40), ("dog", "train", "train0", "abc"), ("dog", "train", "train1", "c---")]
    info = joined(tmp_path, [*many, ("cat", "train", "odd", "ad"), *category("dog", "bcd", splits=("val",))])
    assert info.counts["train"] == {"cat": 40, "dog": 0} and info.counts["val"] == {"cat": 40, "dog": 2}
    assert info.left_out == {OUTSIDE_IMAGE: 3, "few": 1, NO_PARTNER: 2}
    store = ObjectStore.open(tmp_path / "out")
    assert [store.id(row) for row in range(len(store))][-2:] == ["dog/val0", "dog/val1"]
    assert check(tmp_path / "out").rows == 82


@pytest.mark.parametrize(
    ("tasks", "split", "why"),
    [
        ([*category("cat", "abc", splits=("val",))], "train", "common keypoints$"),
        (
            [*category("cat", "abc", splits=("train",)), *category("cat", "a", splits=("val",))],
            "val",
            "left out: 2 few$",
        ),
        ([*category("cat", "ab-", splits=("train",)), ("cat", "val", "v", "abc")], "val", "1 no other photograph with"),
    ],
)
def test_a_data_set_without_pairs_in_train_or_val_is_refused(
    tmp_path: Path, tasks: list[Task], split: str, why: str
) -> None:
    with pytest.raises(UserError, match=f"^raw: no pairs are left in split {split}; .*{why}") as error:
        joined(tmp_path, tasks)
    assert "\n" not in str(error.value) and not list((tmp_path / "out").glob("*"))


def test_coordinates_of_larger_images_are_recognised(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"most keypoints lie outside the image: .*made smaller .* Scale the coordinates"
    ):
        joined(tmp_path, category("cat", "a---"))
    entries = [Entry(f"{k}", "cat", "train", f"{k}", Path(), {"a": (99.0, 9.0), "b": (99.0, 9.0)}) for k in range(2)]

    def outside(_: Entry) -> Loaded:
        return [], Counter({OUTSIDE_IMAGE: 2, "few": 1})

    source = RawDataSet(lambda: "", lambda: NAMES, entries, outside, every_split=False)
    assert list(make_shards(RowMaker(outside, NAMES, SIZE, "raw"), in_shards(entries), tmp_path / "other")) == [0]
    with pytest.raises(UserError, match="every keypoint lies outside its image: were the images made smaller"):
        join_shards(source, in_shards(entries), tmp_path / "other", tmp_path / "out", WANTED, where="raw")


def test_a_category_that_needs_every_split_is_named(tmp_path: Path) -> None:
    tasks = category("cat", "abc", splits=("train", "val", "test"))
    alone = category("dog", "abc", splits=("train", "val"))
    with pytest.raises(UserError, match=r"raw: category dog has 1 photograph\(s\) in test; a pair needs two"):
        joined(tmp_path, [*tasks, *alone, ("dog", "test", "t", "abc")], every_split=True)
    apart = [("dog", "test", "t", "abc"), ("dog", "test", "u", "cd")]
    with pytest.raises(UserError, match="raw: category dog has no two photographs with 2 common keypoints in test"):
        joined(tmp_path / "apart", [*tasks, *alone, *apart], every_split=True)

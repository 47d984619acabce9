import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.readers.base import Entry
from nmt.data.readers.by_rank import carve_val, split_by_rank

SHARES = {"val": 0.1, "test": 0.1}


@pytest.mark.parametrize(("num", "expected"), [(5, (3, 2, 0)), (4, (2, 2, 0)), (3, (3, 0, 0)), (1, (1, 0, 0))])
def test_tiny_sets_fill_val_before_test_and_keep_two_in_train(num, expected):
    counts = Counter(split_by_rank({"bird": {str(k): [set("ab")] for k in range(num)}}, SHARES).values())
    assert (counts["train"], counts["val"], counts["test"]) == expected


@given(st.dictionaries(st.text("abcdef", min_size=1), st.sets(st.sampled_from(["cat", "dog", "bird"]), min_size=1)))
def test_each_photograph_gets_one_split_whatever_its_categories(of_photo):
    photos: dict[str, dict[str, list[set[str]]]] = {}
    for photo, categories in of_photo.items():
        for category in categories:
            photos.setdefault(category, {})[photo] = [set("ab")]
    splits = split_by_rank(photos, SHARES)
    assert splits.keys() == of_photo.keys()
    assert splits == split_by_rank(dict(reversed(photos.items())), SHARES)
    for category in photos:
        counts = Counter(splits[photo] for photo in photos[category])
        assert counts["train"] >= min(2, len(photos[category]))
        if len(photos) == 1 and len(of_photo) >= 6:
            assert min(counts[split] for split in ("train", "val", "test")) >= 2


def test_the_photographs_of_a_split_share_keypoints():
    photos = {f"{k}": [set("ab" if k % 3 == 0 else "cd" if k % 3 == 1 else "ef")] for k in range(30)}
    splits = split_by_rank({"bird": photos}, SHARES)
    for split in ("val", "test"):
        chosen = [photos[photo] for photo, of in splits.items() if of == split]
        assert len(chosen) == 3 and all(keypoints == chosen[0] for keypoints in chosen)


def test_two_categories_do_not_use_up_the_photographs_of_a_third():
    of_photo = {"c": "c", "a": "bc", "ab": "dc", "aaa": "bd", "aaaa": "bd", "aaaaa": "bd", "aaaaaaaaaaaaaa": "bc"}
    of_photo |= {"b": "bdc", "aa": "bdc"}
    photos = {name: {photo: [set("ab")] for photo, of in of_photo.items() if name in of} for name in "bcd"}
    splits = split_by_rank(photos, SHARES)
    assert all(sum(splits[photo] == "train" for photo in photos[name]) >= 2 for name in photos)
    assert {*splits.values()} >= {"train", "val"}


def test_objects_of_one_photograph_are_compared_one_by_one():
    """Their keypoints together would seem to share two with any other photograph."""
    photos = {f"{k}": [{"a", f"x{k}"}, {"b", f"y{k}"}] for k in range(20)} | {"p": [set("cd")], "q": [set("cd")]}
    assert {photo for photo, split in split_by_rank({"bird": photos}, {"val": 0.1}).items() if split == "val"} == {
        "p",
        "q",
    }


def test_one_photograph_taken_for_another_category_gets_a_partner():
    """All persons with a dog are in val for the dogs' sake; where they make no pair of persons, two others join."""
    dogs = {f"d{k}": [set("ab")] for k in range(4)}
    persons = {f"d{k}": [{f"only{k}", "z"}] for k in range(4)} | {f"p{k}": [set("ab")] for k in range(16)}
    splits = split_by_rank({"dog": dogs, "person": persons}, {"val": 0.1})
    assert sum(splits[photo] == "val" for photo in dogs) == 2
    assert sum(splits[f"p{k}"] == "val" for k in range(16)) == 2


def entries(of_photo: dict[str, str]) -> list[Entry]:
    """photograph -> letters of its categories"""
    points = {"a": (1.0, 1.0), "b": (2.0, 2.0)}
    return [Entry(f"{c}/{p}", c, "train", p, Path(p), points) for p, of in of_photo.items() for c in of]


@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3), min_size=1, max_size=60), st.randoms())
def test_val_keeps_two_photographs_of_each_category_whatever_the_order(categories, rng: random.Random):
    listed = entries({f"{k}": "".join(sorted(of)) for k, of in enumerate(categories)})
    carved = carve_val(listed)
    split = {entry.photo: entry.split for entry in carved}
    assert all(entry.split == split[entry.photo] for entry in carved) and {*split.values()} <= {"train", "val"}
    rng.shuffle(listed)
    assert {entry.photo: entry.split for entry in carve_val(listed)} == split
    for category, num in Counter(c for of in categories for c in of).items():
        of_split = Counter(entry.split for entry in carved if entry.category == category)
        assert of_split["train"] >= min(2, num)


@given(st.integers(4, 400))
def test_val_is_a_tenth_of_a_category(num):
    carved = carve_val(entries({f"{k}": "a" for k in range(num)}))
    assert Counter(entry.split for entry in carved)["val"] == max(2, round(num / 10))


@given(st.integers(20, 300), st.text("xyz0123456789", min_size=1))
def test_another_photograph_moves_at_most_one_of_a_category(num, name):
    before = carve_val(entries({f"{k}": "a" for k in range(num)}))
    after = {entry.id: entry.split for entry in carve_val(entries({f"{k}": "a" for k in range(num)} | {name: "a"}))}
    assert sum(after[entry.id] != entry.split for entry in before) <= 1

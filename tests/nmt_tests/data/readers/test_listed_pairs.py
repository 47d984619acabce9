from pathlib import Path

import pytest

from nmt.data.readers.base import Entry, Excluded, RawListing
from nmt.data.readers.listed_pairs import FEW_COMMON, ONE_IMAGE, OTHER_SPLIT, REPEATED, ListedPairs
from nmt.data.store.given_pairs import NOT_GIVEN


def entry(name: str, points: str = "abc", split: str = "test", photo: str = "") -> Entry:
    return Entry(f"cat/{name}", "cat", split, photo or name, Path(name), dict.fromkeys(points, (1.0, 2.0)))


def test_pairs_keep_their_order_and_match_what_both_objects_have():
    pairs, listing = ListedPairs(), RawListing(entries=[entry("unpaired")])
    pairs.add(entry("b", "cab"), entry("a", "xbc"))
    pairs.add(entry("a", "xbc"), entry("b", "cab"))
    pairs.put_into(listing)
    assert [(p.id0, p.id1, p.keypoints) for p in listing.pairs or ()] == [
        ("cat/b", "cat/a", ("c", "b")),
        ("cat/a", "cat/b", ("b", "c")),
    ]
    assert [e.id for e in listing.entries] == ["cat/a", "cat/b"] and pairs.splits() == {"test"}
    assert all(grade == NOT_GIVEN for pair in listing.pairs or () for grade in pair.difficulty)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (entry("a"), entry("b"), REPEATED),
        (entry("a", split="val"), entry("c", split="val"), OTHER_SPLIT),
        (entry("c", split="val", photo="b"), entry("d", split="val"), OTHER_SPLIT),
        (entry("c"), entry("d", photo="c"), ONE_IMAGE),
        (entry("c", "ab"), entry("d", "bc"), FEW_COMMON),
    ],
)
def test_a_pair_that_is_refused_leaves_no_object_behind(source, target, reason):
    pairs, listing = ListedPairs(), RawListing()
    pairs.add(entry("a"), entry("b"))
    with pytest.raises(Excluded, match=reason):
        pairs.add(source, target)
    pairs.add(entry("c", split="train"), entry("d", split="train"))
    pairs.put_into(listing)
    assert [e.split for e in listing.entries] == ["test", "test", "train", "train"]

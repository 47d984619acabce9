from __future__ import annotations

import json

import numpy as np

from nmt.inference.matches import Matches


def matches(**changes) -> Matches:
    """Three source keypoints and three targets, of which the first two match."""
    values = {
        "indices": np.array([[0, 1], [1, 0]]),
        "similarity": np.array([0.5, 0.25], np.float32),
        "confidence": np.array([0.75, 0.5], np.float32),
        "calibrated": True,
        "threshold": 0.4,
        "points0": np.array([[1.0, 2.0], [3.0, 9.0], [5.0, 6.0]]),
        "points1": np.array([[1.0, 2.0], [3.0, 9.0], [8.0, 6.0]]),
        "names0": ("nose", "tail", "ear"),
        "names1": ("tail", "nose", "fin"),
        "image0": np.zeros((20, 30, 3), np.uint8),
        "image1": np.zeros((10, 30, 3), np.uint8),
    }
    return Matches(**{**values, **changes})


def without(count: int = 0, **changes) -> Matches:
    """Only the first `count` of the matches."""
    whole = matches()
    kept = {name: getattr(whole, name)[:count] for name in ("indices", "similarity", "confidence")}
    return matches(**kept, **changes)


def test_the_unmatched_of_both_sides_are_named_or_numbered():
    assert matches().unmatched0 == ("ear",) and matches().unmatched1 == ("fin",)
    bare = matches(names0=None, names1=None)
    assert bare.unmatched0 == (2,) and bare.unmatched1 == (2,) and bare.names() == {"0": "1", "1": "0", "2": None}


def test_printed_it_is_a_table_then_the_unmatched_then_the_verdict():
    assert str(matches()).splitlines() == [
        "source  target  confidence",
        "nose    nose          0.75",
        "tail    tail          0.50",
        "no match of the source: ear",
        "no match of the target: fin",
    ]
    assert str(without()).splitlines() == [
        "no keypoint matched",
        "no match of the source: nose, tail, ear",
        "no match of the target: tail, nose, fin",
        "0 of 3 matched: these images may not show the same object",
    ]
    assert "raw score" in str(matches(calibrated=False, threshold=None))


def test_the_verdict_counts_what_could_match():
    assert matches().verdict() is None and without(1).verdict().startswith("1 of 3 matched: ")
    two = {"points1": np.array([[1.0, 2.0], [3.0, 9.0]]), "names1": ("tail", "nose")}
    assert without(1, **two).verdict() is None  # half of the two that could
    assert without(1, threshold=None).verdict() is None


def test_right_and_wrong_are_counted_where_both_sides_share_names():
    assert matches().right() == (2, 2) and matches().truth.tolist() == [1, 0, -1]
    assert matches(indices=np.array([[0, 0], [1, 0]])).right() == (1, 2)
    assert without().right() == (0, 2)
    assert matches(names1=("a", "b", "c")).right() is None and matches(names0=None).truth is None


def test_plain_values_hold_the_same():
    found = json.loads(json.dumps(matches().to_dict()))
    assert found["matches"] == {"nose": "nose", "tail": "tail", "ear": None}
    assert found["rows"][1] == {"source": "tail", "target": "tail", "confidence": 0.5, "similarity": 0.25}
    assert (found["unmatched0"], found["unmatched1"]) == (["ear"], ["fin"])
    assert (found["threshold"], found["calibrated"], found["verdict"]) == (0.4, True, None)
    assert (found["right"], found["known"]) == (2, 2)


def test_it_is_drawn_at_any_size_and_with_or_without_names():
    for changes in ({}, {"names0": None}, {"calibrated": False}):
        assert matches(**changes).draw(side=256).shape[2] == 3
        assert without(**changes).draw(side=64).shape[2] == 3

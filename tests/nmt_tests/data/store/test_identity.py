"""Results know the data set that they were made on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nmt.data.store.identity import check_same, data_set_record, saved_record
from nmt.errors import UserError


@pytest.mark.parametrize("saved", [None, {}, [], 7, {"identity": None}, {"identity": "aa"}, "aa"])
def test_the_same_data_set_and_one_that_was_not_recorded_are_accepted(saved: Any) -> None:
    check_same(saved, "aa", where="results/x", data="data/x")


@pytest.mark.parametrize(
    ("saved", "place"), [("bb", ""), (data_set_record("bb", Path("data/old")), " (then in data/old)")]
)
def test_another_data_set_is_refused_with_both_named(saved: Any, place: str) -> None:
    told = (
        f"results/x: trained on the data set bb{place}, but data/x is the data set aa, and their results do not compare"
    )
    with pytest.raises(UserError) as caught:
        check_same(saved, "aa", where="results/x", data="data/x")
    assert str(caught.value).startswith(told) and "give the first one with --data" in str(caught.value)


def test_a_record_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    assert saved_record(tmp_path / "absent.json") is None
    (tmp_path / "cut.json").write_text('{"identity": "b')
    assert saved_record(tmp_path / "cut.json") is None
    (tmp_path / "whole.json").write_text('{"identity": "b"}')
    assert saved_record(tmp_path / "whole.json") == {"identity": "b"}

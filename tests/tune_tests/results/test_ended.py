"""The record of a trial's end in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tune.results.ended import Ended, read_ended, write_ended


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_ended(tmp_path) is None and read_ended(tmp_path / "absent") is None
    ended = Ended(state="FAIL", reason="the loss is no longer finite", history=[{"epoch": 1, "val/accuracy": 0.5}])
    write_ended(tmp_path, ended)
    assert read_ended(tmp_path) == ended


@pytest.mark.parametrize("content", ["", "[]", '{"state": "COMPLETE"}', "{"])
def test_a_damaged_record_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "ended.json").write_text(content)
    with pytest.raises(UserError, match=r"ended\.json: not the record of an ended trial .*; remove it") as error:
        read_ended(tmp_path)
    assert "\n" not in str(error.value)

"""A write in a thread: what it says and when."""

from __future__ import annotations

import threading

import pytest

from nmt.errors import TemporaryError
from nmt.training.writer import Writer


def test_what_is_started_is_written_meanwhile_and_told_once() -> None:
    writer, may_end, said = Writer(), threading.Event(), []
    assert not writer.pending and not writer.done
    writer.start(lambda: may_end.wait(60) and said.append("written"), lambda: said.append("told"))
    assert writer.pending and not writer.done and said == []
    may_end.set()
    writer.finish()
    assert said == ["written", "told"] and not writer.pending
    writer.finish()
    assert said == ["written", "told"]


def test_a_second_write_waits_for_the_first() -> None:
    writer, said = Writer(), []
    for number in (1, 2):
        writer.start(lambda n=number: said.append(("written", n)), lambda n=number: said.append(("told", n)))
    writer.finish()
    assert said == [("written", 1), ("told", 1), ("written", 2), ("told", 2)]


def test_an_error_is_raised_where_the_write_is_awaited_and_only_there() -> None:
    def fails() -> None:
        raise TemporaryError("disk: full")

    writer, said = Writer(), []
    writer.start(fails, lambda: said.append("told"))
    with pytest.raises(TemporaryError, match="disk: full"):
        writer.finish()
    writer.finish()
    writer.start(None, lambda: said.append("other rank"))
    assert not writer.done
    writer.finish()
    assert said == ["other rank"]


def test_an_end_by_another_error_waits_and_tells_nobody() -> None:
    writer, said = Writer(), []
    writer.start(lambda: said.append("written"), lambda: said.append("told"))
    writer.close()
    assert said == ["written"]

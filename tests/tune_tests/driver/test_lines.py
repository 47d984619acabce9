"""What a search prints while it runs."""

from __future__ import annotations

import pytest

from tests.tune_tests.results.summaries import record, summary
from tune.driver import lines as module
from tune.driver.lines import Lines

EPOCH = {"epoch": 2, "val/accuracy": 0.5}


def test_a_running_trial_has_a_line_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lines = Lines(4, earlier_seconds=100.0)
    lines.epoch(3, EPOCH)
    assert not caplog.messages and lines.seconds() >= 100
    monkeypatch.setattr(module, "LINE_SECONDS", -1.0)
    lines.epoch(3, EPOCH)
    (line,) = caplog.messages
    assert line.split() == [line.split()[0], "s", "003", "epoch", "2", "of", "4", "50.0", "%"]


def test_the_end_of_a_trial_names_its_result_and_the_best_so_far(caplog: pytest.LogCaptureFixture) -> None:
    lines, found = Lines(4, earlier_seconds=0.0), summary(record(0, 0.4), record(1, 0.75))
    lines.waits(2, EPOCH)
    lines.end(1, "COMPLETE", None, epochs=4, best={"val/accuracy": 0.75}, summary=found)
    lines.end(2, "FAIL", "diverged", epochs=0, best={}, summary=found)
    waits, complete, failed = caplog.messages
    assert waits.endswith("002  paused at 2 of 4 epochs  50.0 %")
    assert complete.endswith("001  COMPLETE  4 of 4 epochs  75.0 %  best so far 75.0 % (001)")
    assert failed.endswith("002  FAIL      0 of 4 epochs  diverged  best so far 75.0 % (001)")

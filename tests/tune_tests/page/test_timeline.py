"""When trials trained, from the log."""

from __future__ import annotations

from tests.tune_tests.page.made_searches import write_search
from tune.page.timeline import spans
from tune.page.trials import shown_trials
from tune.results.histories import read_histories
from tune.results.layout import LOG


def test_each_job_ends_at_its_line_and_lasts_as_long_as_its_epochs(tmp_path):
    made = write_search(tmp_path, trials=10)
    found = spans(shown_trials(made, read_histories(made, tmp_path), tmp_path), tmp_path)
    assert sorted({s.trial for s in found}) == [t.id for t in made.trials if t.epochs]
    default, ninth = ([s for s in found if s.trial == trial] for trial in ("000", "009"))
    assert [(s.first, s.last, s.start, s.end) for s in default] == [(1, 9, 1.0, 19.0)]
    assert [(s.first, s.last) for s in ninth] == [(1, 1), (2, 3), (4, 9)]
    assert [s.end - s.start for s in ninth] == [2.0, 4.0, 12.0]


def test_lines_of_other_jobs_and_a_log_that_is_not_there_have_no_spans(tmp_path):
    made = write_search(tmp_path, trials=3)
    trials = shown_trials(made, read_histories(made, tmp_path), tmp_path)
    log = tmp_path / LOG
    log.write_text(
        "2026-11-29 00:05:54    3.0 s  001  seed 1  70.0 % at epoch 4\n"  # a confirmation
        "2026-11-29 00:05:54    3.0 s  777  paused at 1 of 9 epochs  50.0 %\n"  # a trial that was removed
        "2026-11-29 00:05:54    9.0 s  001  paused at 1 of 9 epochs  50.0 %\n"
        "2026-11-29 00:05:54   11.0 s  001  paused at 1 of 9 epochs  50.0 %\n"  # said twice
        "no line of a search \x00\n"
    )
    assert [(s.trial, s.start, s.end) for s in spans(trials, tmp_path)] == [("001", 7.0, 9.0)]
    log.unlink()
    assert spans(trials, tmp_path) == []

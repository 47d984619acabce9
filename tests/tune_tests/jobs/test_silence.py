"""How long a job may be silent: the limits alone, without a job."""

from __future__ import annotations

import pytest

from tune.jobs.silence import Silence, first_report


def test_a_job_may_be_silent_for_ten_of_its_own_epochs() -> None:
    silence = Silence(first_seconds=7200)
    silence.begin(1000)
    assert silence.reason(1000 + 7200) is None
    assert "no report for 7201 s, over the limit of 7200 s (it has reported none)" in (
        silence.reason(1000 + 7201) or ""
    )
    for epoch, seconds in ((1, 500.0), (2, 560.0), (3, 620.0)):
        silence.report(epoch, seconds, now=2000 + seconds)
    assert silence.reason(2620 + 600) is None
    assert "no report for 601 s, over the limit of 600 s (its epochs take 60.0 s)" in (silence.reason(2620 + 601) or "")


def test_a_job_of_short_epochs_has_five_minutes_and_a_new_process_more() -> None:
    silence = Silence(first_seconds=7200)
    silence.begin(0)
    silence.report(4, 4.0, now=10)
    assert silence.reason(10 + 300) is None and silence.reason(10 + 301)
    silence.begin(1000)
    assert silence.reason(1000 + 7200) is None
    silence.report(4, 4.0, now=2000)  # told again, no epoch of its own
    assert silence.epochs == [1.0] and silence.reason(2000 + 301)


def test_a_job_that_gives_signs_of_life_is_judged_by_them_alone() -> None:
    silence = Silence(first_seconds=7200)
    silence.begin(0)
    silence.sign(4000)  # it has waited, longer than any limit
    assert silence.reason(4000 + 300) is None
    assert "no report for 301 s, over the limit of 300 s" in (silence.reason(4000 + 301) or "")
    silence.begin(5000)
    silence.sign(4999)  # of the job before
    assert silence.reason(5000 + 7200) is None and silence.reason(5000 + 7201)


@pytest.mark.parametrize(
    ("epochs", "limit"),
    [
        ([], 7200.0),
        ([1.0, 2.0, 3.0], 900.0),  # a process has to start
        ([100.0, 200.0, 300.0], 2000.0),
        ([5000.0], 7200.0),
    ],
)
def test_the_first_report_is_expected_by_what_other_trials_have_measured(epochs: list[float], limit: float) -> None:
    assert first_report(epochs, most=7200) == limit


def test_a_trial_of_long_epochs_of_its_own_has_their_time_after_a_restart() -> None:
    silence = Silence(first_seconds=900)
    silence.know(2, 1000.0)
    silence.begin(0)
    assert silence.reason(5000) is None and silence.reason(5001)

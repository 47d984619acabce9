from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.tune_tests.study.replay import LADDER, Replay
from tune.spaces.settings import SearchSettings
from tune.study.budget import epochs_left, may_start, most_epochs, out_of_time, plan, stale, usual_epochs
from tune.study.halving import Ladder, Standing, next_job


@given(st.integers(18, 60), st.integers(1, 3))
def test_search_of_limited_epochs_keeps_to_them_and_ends_with_a_rival(limit: int, at_once: int) -> None:
    replay = Replay(lambda n, e: ((n * 37) % 101) / 101, trials=10**6)
    search = SearchSettings(epochs=limit)
    replay.decide = lambda: next_job(  # type: ignore[method-assign]
        replay.standings, LADDER, epochs_left=epochs_left(search, replay.standings)
    )
    replay.run(at_once)
    spent = sum(t.epoch for t in replay.standings)
    assert limit - 9 < spent <= limit
    assert [t.number for t in replay.standings if t.epoch == 9][:1] == [0]
    assert sum(t.epoch == 9 for t in replay.standings) >= 2


def test_patience_counts_the_trials_since_the_best_at_the_first_rung() -> None:
    values = [0.5, 0.7, 0.6, 0.6, 0.9]
    standings = [Standing(number=n, values={1: v}, until=1) for n, v in enumerate(values)]
    assert [stale(standings[:n], LADDER) for n in range(6)] == [0, 0, 0, 1, 2, 0]
    failed = Standing(number=5, values={}, until=1, ended=True, failed=True)
    assert stale([*standings, failed], LADDER) == 1
    assert not may_start(SearchSettings(patience=2), standings[:4], LADDER)
    assert may_start(SearchSettings(patience=2), standings, LADDER)


def test_plan_says_what_is_trained_as_a_replay_of_it_is() -> None:
    replay = Replay(lambda n, e: 1 / n if n else 0.0, trials=28)
    replay.run()
    assert usual_epochs(28, LADDER) == sum(t.epoch for t in replay.standings)
    assert plan(SearchSettings(trials=28), LADDER) == (
        "until 28 trials; compared after 1, 3 of 9 epochs; about 72 epochs, at most 252 epochs"
    )
    assert plan(SearchSettings(hours=2, patience=5), Ladder(epochs=9, grace=9, factor=3)) == (
        "until 2 hours or 5 trials without improvement; 9 epochs each; as many epochs as fit"
    )


@given(st.floats(0, 5), st.floats(0, 5), st.floats(0, 20_000), st.floats(0, 20_000))
def test_time_is_up_when_a_limit_that_is_set_is_reached(
    hours: float, gpu_hours: float, seconds: float, gpu_seconds: float
) -> None:
    search = SearchSettings(hours=hours, gpu_hours=gpu_hours)
    expected = (hours > 0 and seconds / 3600 >= hours) or (gpu_hours > 0 and gpu_seconds / 3600 >= gpu_hours)
    assert out_of_time(search, seconds=seconds, gpu_seconds=gpu_seconds) == expected


def test_the_most_a_search_trains_is_its_smallest_limit_of_epochs() -> None:
    for trials, epochs, most in ((10, 0, 90), (10, 50, 50), (10, 500, 90), (0, 50, 50), (0, 0, math.inf)):
        assert most_epochs(SearchSettings(trials=trials, epochs=epochs), 9) == most


def test_epochs_promised_to_running_jobs_are_spent() -> None:
    running = Standing(number=1, values={1: 0.5}, until=3, running=True)
    waiting = Standing(number=2, values={1: 0.5}, until=3)
    search = SearchSettings(epochs=20)
    assert epochs_left(search, [running]) == 20 - 1 - 2 and epochs_left(search, [waiting]) == 20 - 1
    assert epochs_left(SearchSettings(), [running, waiting]) == math.inf
    assert epochs_left(search, [waiting], reserved=8) == 20 - 1 - 8


def test_what_is_trained_again_at_the_end_is_in_the_plan() -> None:
    search = SearchSettings(trials=10, reselect=5)
    assert most_epochs(search, 9) == 9 * 15 and most_epochs(SearchSettings(epochs=100, reselect=5), 9) == 100
    assert plan(search, LADDER).endswith("at most 135 epochs; then the best 5 once more, with a fresh seed")


def test_the_number_of_trials_ends_the_search_however_they_stand() -> None:
    trials = [Standing(number=n, values={}, until=1, running=bool(n)) for n in range(3)]
    assert not may_start(SearchSettings(trials=3), trials, LADDER)
    assert may_start(SearchSettings(trials=4), trials, LADDER) and may_start(SearchSettings(), trials, LADDER)


@given(st.integers(2, 60), st.sampled_from([2, 3, 4]), st.booleans())
def test_halving_usually_trains_between_one_rung_each_and_everything(trials: int, factor: int, brackets: bool) -> None:
    ladder = Ladder(epochs=27, grace=1, factor=factor, brackets=brackets)
    assert 27 + (trials - 1) <= usual_epochs(trials, ladder) <= 27 * trials
    assert usual_epochs(trials + 1, ladder) >= usual_epochs(trials, ladder)

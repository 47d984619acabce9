from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tune_tests.study.replay import LADDER, Replay
from tune.study.halving import Ladder, NextJob, Pause, Standing, next_job, promotions


def test_rungs_are_spaced_by_the_factor_and_end_with_the_budget() -> None:
    assert Ladder(epochs=27, grace=1, factor=3).rungs == (1, 3, 9, 27)
    assert Ladder(epochs=12, grace=2, factor=3).rungs == (2, 6, 12)
    assert Ladder(epochs=4, grace=4, factor=2).rungs == (4,)


def test_default_configuration_gets_the_full_budget_at_once() -> None:
    assert Replay(lambda n, e: 0.0).run()[0] == NextJob(0, 9)


def test_best_third_of_a_rung_is_promoted_and_the_highest_rung_first() -> None:
    jobs = Replay(lambda n, e: 1 / n if n else 0.0, trials=10).run()
    # 0 trains in full; 1 and 2 wait; at three in the rung the best of them goes on, at six a second one
    assert jobs[:4] == [NextJob(0, 9), NextJob(1, 1), NextJob(2, 1), NextJob(1, 3)]
    assert Counter(job.until for job in jobs if job.number) == {1: 9, 3: 3, 9: 1}


def test_without_promotion_every_trial_is_one_job() -> None:
    jobs = Replay(lambda n, e: 0.5, ladder=Ladder(epochs=9, grace=9, factor=3), trials=4).run(at_once=2)
    assert jobs == [NextJob(n, 9) for n in range(4)]


def test_interrupted_job_comes_first_and_goes_to_the_same_epoch() -> None:
    standings = [
        Standing(number=0, values={1: 0.1}, until=9, running=True),
        Standing(number=1, values={1: 0.5, 2: 0.6}, until=3),
        Standing(number=2, values={1: 0.9}, until=1),
    ]
    assert next_job(standings, LADDER) == NextJob(1, 3)


def test_failed_trial_never_counts_as_good() -> None:
    good = [Standing(number=n, values={1: v}, until=1) for n, v in enumerate((0.1, 0.2, 0.3), start=1)]
    assert [job for job, _ in promotions(good, LADDER)] == [NextJob(3, 3)]
    good[2] = replace(good[2], ended=True, failed=True, values={1: 0.3, 2: 0.9})
    assert [job for job, _ in promotions(good, LADDER)] == [NextJob(2, 3)]


def test_rung_too_small_to_promote_still_sends_its_best_against_the_default() -> None:
    jobs = Replay(lambda n, e: -n, trials=3).run()
    assert jobs == [NextJob(0, 9), NextJob(1, 1), NextJob(2, 1), NextJob(1, 3), NextJob(1, 9)]


def test_no_job_begins_that_the_epochs_left_do_not_cover() -> None:
    standings = [Standing(number=n, values={1: 0.1 * n}, until=1) for n in range(3)]
    # a new trial is one epoch, a promotion two, and eight take one of these to the full budget
    assert next_job(standings, LADDER, epochs_left=9) == NextJob(2, 3)
    assert next_job(standings, LADDER, epochs_left=8) == NextJob(2, 3)
    assert next_job(standings, LADDER, epochs_left=7) is Pause.FINISHED
    standings[0] = replace(standings[0], values={1: 0.9, 9: 0.9}, until=9, ended=True)
    assert next_job(standings, LADDER, epochs_left=9) == NextJob(3, 1)
    assert next_job(standings, LADDER, epochs_left=8) == NextJob(2, 3)


def test_brackets_share_the_trials_as_hyperband_does() -> None:
    ladder = Ladder(epochs=81, grace=1, factor=3, brackets=True)
    # Hyperband's own example (Li et al. 2018, table 1: R = 81, eta = 3): 81, 34, 15, 8 and 5 configurations
    assert ladder.shares() == (81, 34, 15, 8, 5)
    counts = Counter(ladder.bracket(number) for number in range(10 * 143))
    assert counts == {0: 810, 1: 340, 2: 150, 3: 80, 4: 50}
    assert {ladder.bracket(number) for number in range(40)} == {0, 1, 2, 3, 4}
    assert ladder.steps(0) == (81,)


curves = st.dictionaries(
    st.tuples(st.integers(0, 25), st.integers(1, 9)), st.floats(0, 1) | st.just(math.nan), max_size=60
)
ladders = st.builds(
    Ladder, epochs=st.integers(1, 9), grace=st.integers(1, 3), factor=st.integers(2, 4), brackets=st.booleans()
).filter(lambda ladder: ladder.grace <= ladder.epochs)


@given(curves, ladders, st.integers(1, 25), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_search_ends_with_each_job_once_and_promotes_the_best_alone(
    table: dict[tuple[int, int], float], ladder: Ladder, trials: int, at_once: int, random: object
) -> None:
    replay = Replay(lambda n, e: table.get((n, e), 0.5), ladder=ladder, trials=trials)
    jobs = replay.run(at_once, random.choice)  # type: ignore[attr-defined]
    assert len(set(jobs)) == len(jobs) and len(replay.standings) == trials
    for trial in replay.standings:
        steps = [job.until for job in jobs if job.number == trial.number]
        assert steps == list(ladder.steps(trial.number))[: len(steps)]


@given(curves, ladders, st.integers(1, 25), st.randoms(use_true_random=False))
def test_decision_after_any_prefix_is_a_function_of_the_standings(
    table: dict[tuple[int, int], float], ladder: Ladder, trials: int, random: object
) -> None:
    def fresh() -> Replay:
        return Replay(lambda n, e: table.get((n, e), 0.5), ladder=ladder, trials=trials)

    jobs = fresh().run()
    cut, again = random.randrange(len(jobs) + 1), fresh()  # type: ignore[attr-defined]
    for job in jobs[:cut]:
        again.start(job)
        again.end(job.number)
    random.shuffle(shuffled := list(again.standings))  # type: ignore[attr-defined]
    expected = jobs[cut] if cut < len(jobs) else Pause.FINISHED
    assert next_job(shuffled, ladder, may_start=len(shuffled) < trials) == expected


@pytest.mark.parametrize("at_once", [1, 4])
def test_promotion_trains_less_than_a_third_and_keeps_the_best(at_once: int) -> None:
    replay = Replay(lambda n, e: ((n * 37) % 101) / 101 + 0.01 * e, trials=60)
    replay.run(at_once)
    spent = sum(t.epoch for t in replay.standings)
    assert spent < 60 * 9 / 3
    best = max(range(60), key=lambda n: (n * 37) % 101)
    assert replay.standings[best].epoch == 9

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.driver.early_stopping import CONTINUE, STOP, Rungs, SuccessiveHalving


def replay(rungs: Rungs, curves: dict[int, list[float]]) -> dict[int, int]:
    """Trial number -> epochs run, the trials one after the other."""
    ended = {}
    for number, curve in curves.items():
        for epoch, value in enumerate(curve, start=1):
            ended[number] = epoch
            if not rungs.goes_on(number, epoch, value):
                break
    return ended


def test_rungs_are_spaced_by_the_factor_and_end_below_the_budget() -> None:
    assert list(Rungs(epochs=27, grace=1, factor=3).values) == [1, 3, 9]
    assert list(Rungs(epochs=12, grace=2, factor=3).values) == [2, 6]
    assert list(Rungs(epochs=4, grace=4, factor=2).values) == []


def test_at_a_rung_the_best_third_go_on() -> None:
    rungs = Rungs(epochs=9, grace=1, factor=3)
    decisions = [rungs.goes_on(number, 1, value) for number, value in enumerate([0.5, 0.4, 0.6, 0.55, 0.45])]
    # first: alone; 0.4: second of 2; 0.6: best; 0.55: second of 4, which rounds up to 2; 0.45: fourth of 5
    assert decisions == [True, False, True, True, False]


def test_between_rungs_everyone_goes_on() -> None:
    rungs = Rungs(epochs=9, grace=3, factor=3)
    assert replay(rungs, {0: [0.9] * 9, 1: [0.1, 0.1, 0.1, 0.1]}) == {0: 9, 1: 3}


def test_decision_at_a_rung_is_made_once() -> None:
    rungs = Rungs(epochs=9, grace=1, factor=3)
    rungs.goes_on(0, 1, 0.9)
    assert not rungs.goes_on(1, 1, 0.5)
    assert rungs.goes_on(0, 1, 0.9) and rungs.values[1] == {0: 0.9, 1: 0.5}


@given(st.lists(st.lists(st.floats(0, 1), min_size=9, max_size=9), min_size=1, max_size=30), st.integers(0, 9))
def test_rungs_refilled_from_reported_values_decide_as_the_old_ones_would(curves: list[list[float]], cut: int) -> None:
    whole = Rungs(epochs=9, grace=1, factor=3)
    before, after = dict(enumerate(curves[:cut])), dict(enumerate(curves[cut:], start=cut))
    ended = replay(whole, before)
    refilled = Rungs(epochs=9, grace=1, factor=3)
    reported = [(n, e, curves[n][e - 1]) for n, last in ended.items() for e in range(1, last + 1)]
    random.Random(0).shuffle(reported)
    for number, epoch, value in reported:
        refilled.goes_on(number, epoch, value)
    assert replay(refilled, after) == replay(whole, after)


def decide(scheduler: SuccessiveHalving, number: int, epoch: int, value: float) -> Any:
    trial = SimpleNamespace(config={"number": number})
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "val/accuracy": value})


def test_default_configuration_is_never_stopped() -> None:
    scheduler = SuccessiveHalving(Rungs(epochs=9, grace=1, factor=3), metric="val/accuracy")
    assert decide(scheduler, 1, 1, 0.9) == CONTINUE
    assert decide(scheduler, 0, 1, 0.1) == CONTINUE
    assert decide(scheduler, 2, 1, 0.1) == STOP


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_value_that_is_not_finite_stops_any_trial(value: float) -> None:
    scheduler = SuccessiveHalving(Rungs(epochs=9, grace=1, factor=3), metric="val/accuracy")
    assert decide(scheduler, 0, 2, value) == STOP

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.study.halving import Ladder
from tune.study.sampler_view import hindsight, standing, view_of


def trial(number: int, state: TrialState, values: dict[int, float]) -> FrozenTrial:
    frozen = create_trial(
        state=state,
        value=max(values.values()) if state == TrialState.COMPLETE else None,
        params={"x": float(number)},
        distributions={"x": FloatDistribution(0, 100)},
        intermediate_values=values,
    )
    frozen.number = number
    return frozen


def test_default_configuration_trained_in_full_is_not_better_for_it() -> None:
    trials = [
        trial(0, TrialState.COMPLETE, {1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5}),
        trial(1, TrialState.RUNNING, {1: 0.6}),
        trial(2, TrialState.RUNNING, {1: 0.5, 2: 0.6, 3: 0.7}),
        trial(3, TrialState.RUNNING, {1: 0.9, 2: 0.9, 3: 0.9}),
        trial(4, TrialState.FAIL, {1: 0.95}),
        trial(5, TrialState.RUNNING, {}),
        trial(6, TrialState.PRUNED, {1: 0.1}),
    ]
    ladder = Ladder(epochs=4, grace=1, factor=3)
    left = hindsight({t.number: standing(t) for t in trials}, ladder)
    # five values at the first rung: one passes, trial 3, which reached the next; all others stand at the first
    assert left == {0: (1, 0.2), 1: (1, 0.6), 2: (1, 0.5), 3: (3, 0.9), 6: (1, 0.1)}
    view = view_of(trials, ladder)
    seen = {t.params["x"]: t.value for t in view if t.state == TrialState.COMPLETE}
    assert sorted(seen, key=lambda n: seen[n] or 0.0) == [6, 0, 2, 1, 3] and sum(
        v or 0.0 for v in seen.values()
    ) == pytest.approx(0)
    assert {t.params["x"]: t.state for t in view if t.state != TrialState.COMPLETE} == {
        4: TrialState.FAIL,
        5: TrialState.RUNNING,
    }

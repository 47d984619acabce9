from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import norm, rankdata

from tune.spaces.parameter import Parameter
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.halving import Ladder, Standing
from tune.study.sampler_view import (
    Known,
    distribution,
    hindsight,
    ranked,
    seen_distribution,
    seen_params,
    standing,
    study_params,
    view_of,
)


def trial(number: int, state: TrialState, values: dict[int, float]) -> FrozenTrial:
    frozen = create_trial(
        state=state,
        value=max(values.values()) if state == TrialState.COMPLETE else None,
        params={"optim.lr": float(number)},
        distributions={"optim.lr": FloatDistribution(0, 100)},
        intermediate_values=values,
    )
    frozen.number = number
    return frozen


@pytest.fixture
def line(space_text: str, tmp_path: Path) -> Space:
    """A space of one number, the learning rate; `trial` gives each trial its own."""
    path = tmp_path / "tiny.toml"
    path.write_text(space_text)
    return dataclasses.replace(load_space(path), parameters=(Parameter(key="optim.lr", type=float, low=0, high=100),))


def test_default_configuration_trained_in_full_is_not_better_for_it(line: Space) -> None:
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
    view = view_of(line, trials, ladder, {})
    seen = {t.params["optim.lr"]: t.value for t in view if t.state == TrialState.COMPLETE}
    assert sorted(seen, key=lambda n: seen[n] or 0.0) == [6, 0, 2, 1, 3] and sum(
        v or 0.0 for v in seen.values()
    ) == pytest.approx(0)
    assert {t.params["optim.lr"]: t.state for t in view if t.state != TrialState.COMPLETE} == {
        4: TrialState.FAIL,
        5: TrialState.RUNNING,
    }


def test_a_view_made_from_what_is_kept_is_the_one_made_anew_and_optuna_takes_it_over(line: Space) -> None:
    ladder, known = Ladder(epochs=4, grace=1, factor=3), dict[int, Known]()
    trials = [trial(n, TrialState.RUNNING, {1: n % 4 / 10} if n % 3 else {}) for n in range(8)]
    view_of(line, trials, ladder, known)
    kept = known[1].seen
    trials[2] = trial(2, TrialState.RUNNING, {1: 0.2, 2: 0.3, 3: 0.8})  # more of it: another object
    trials[4] = trial(4, TrialState.FAIL, {1: 0.1})
    trials.append(trial(8, TrialState.COMPLETE, {1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9}))
    view, anew = view_of(line, trials, ladder, known), view_of(line, trials, ladder, {})
    assert known[1].seen is kept

    def shown(found: Sequence[FrozenTrial]) -> list[object]:
        return [(t.number, t.state, t.values, t.params, t.distributions, t.system_attrs) for t in found]

    assert shown(view) == shown(anew)
    taken, whole = (optuna.create_study(direction="maximize", storage=InMemoryStorage()) for _ in range(2))
    for one in view:
        taken._storage.create_new_trial(taken._study_id, one)
    whole.add_trials(
        create_trial(state=t.state, values=t.values, params=t.params, distributions=t.distributions) for t in view
    )
    assert shown(taken.get_trials()) == shown(whole.get_trials()) and taken.best_trial.number == whole.best_trial.number
    assert {type(t) for t in taken.get_trials(deepcopy=False)} == {FrozenTrial}
    assert taken.get_trials()[1].params is not view[1].params  # a copy for a sampler is a whole one


PARAMETERS = [
    Parameter(key="optim.lr", type=float, low=1e-4, high=0.1, log=True),
    Parameter(key="loss.layer", type=float, low=0.0, high=1.0, step=0.1),
    Parameter(key="model.heads", type=int, low=2, high=8, step=2),
    Parameter(key="model.decoder_layers", type=int, low=1, high=8, step=1, log=True),
    Parameter(key="optim.gamma", type=float, values=(0.5, 0.1, 0.3)),
    Parameter(key="loss.layer_weighting", type=str, values=("flat", "linear")),
    Parameter(key="train.compile", type=bool, values=(True, False)),
    Parameter(key="optim.milestones", type=tuple, values=((), (2, 5))),
]


@pytest.fixture(scope="module")
def every_kind(space_text: str, tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "tiny.toml"
    path.write_text(space_text)
    return dataclasses.replace(load_space(path), parameters=tuple(PARAMETERS))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_what_optuna_draws_from_either_distribution_is_a_value_and_comes_back(every_kind: Space, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    drawn = study.ask({p.key: seen_distribution(p) for p in PARAMETERS}).params
    stored = study_params(every_kind, drawn)
    assert seen_params(every_kind, stored) == pytest.approx(drawn)
    for parameter in PARAMETERS:
        value = parameter.decode(stored[parameter.key])
        assert parameter.contains(value)
        # the study declares the value as one of its own
        assert distribution(parameter)._contains(distribution(parameter).to_internal_repr(stored[parameter.key]))


def test_a_key_that_a_trial_does_not_have_is_left_out(every_kind: Space) -> None:
    assert study_params(every_kind, {"loss.layer": 0.30000000000000004, "other": 1}) == {"loss.layer": 0.3}
    assert seen_params(every_kind, {"optim.gamma": 0.1}) == {"optim.gamma": 0}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_ranks_of_finished_trials_are_those_of_scipy(values: list[float]) -> None:
    ladder = Ladder(epochs=3, grace=3, factor=3)
    standings = {n: Standing(number=n, values={3: v}, until=3, ended=True) for n, v in enumerate(values)}
    found = ranked(standings, ladder)
    # of equals the earlier trial ranks higher
    ranks = rankdata(values[::-1], method="ordinal")[::-1]
    assert [found[n] for n in range(len(values))] == pytest.approx(norm.ppf((ranks - 0.5) / len(values)).tolist())

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.curve_sampler import CLIP, MOST, observations
from tune.study.halving import Pause
from tune.study.places import Places
from tune.study.sampler import suggest
from tune.study.sampler_view import seen_params
from tune.study.study import SearchStudy, judged

SPACE = """
[base]
data = { mode = "features" }
optim = { lr = 1e-4 }
train = { epochs = 9 }

[space]
"optim.lr" = { low = 1e-5, high = 1e-1, log = true }
"loss.temperature" = { low = 0.05, high = 0.5 }
"loss.layer" = { low = 0.0, high = 1.0 }
"loss.layer_weighting" = { values = ["flat", "linear"] }

[search]
sampler = "gp_curves"
trials = 24
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path: Path = tmp_path_factory.mktemp("curves") / "tiny.toml"
    path.write_text(SPACE)
    return load_space(path)


def regret(params: Mapping[str, Any]) -> float:
    """Least at a rate of 1e-2, a temperature of 0.2 and the second name; the layer loss does not matter."""
    rate = (math.log10(params["optim.lr"]) + 2) / 4
    named = 0.0 if params["loss.layer_weighting"] == "linear" else 0.1
    return 0.5 * rate**2 + 2 * (params["loss.temperature"] - 0.2) ** 2 + named


def play(study: SearchStudy, value: Callable[[Mapping[str, Any], int], float]) -> list[dict[str, Any]]:
    """Run a search, one job after the other; the values of its trials."""
    while not isinstance(job := study.next_job(), Pause):
        trial = study.trial(job.number)
        for epoch in range(len(trial.intermediate_values) + 1, job.until + 1):
            study.report(job.number, epoch, value(study.params(trial), epoch))
        if job.until == study.ladder.epochs:
            study.finish(job.number, TrialState.COMPLETE, {})
        else:
            study.end_job(job.number)
    return [study.params(t) for t in study.trials()]


def test_search_comes_near_the_best_where_random_draws_do_not(tmp_path: Path, space: Space) -> None:
    def value(params: Mapping[str, Any], epoch: int) -> float:
        return 0.5 + 0.1 * math.log(epoch) - regret(params)

    found = {}
    for sampler in ("gp_curves", "random"):
        search = dataclasses.replace(space.search, sampler=sampler)
        study = SearchStudy(tmp_path / f"{sampler}.db", dataclasses.replace(space, search=search))
        found[sampler] = [regret(params) for params in play(study, value)]
    assert min(found["gp_curves"]) < 0.005 < min(found["random"])
    assert np.median(found["gp_curves"][12:]) < 0.5 * np.median(found["random"][12:])


def trial(
    state: TrialState, values: dict[int, float], params: Mapping[str, Any], distributions: Mapping[str, Any]
) -> FrozenTrial:
    return create_trial(
        state=state,
        value=max(values.values()) if state == TrialState.COMPLETE else None,
        params=dict(params),
        distributions=dict(distributions),
        intermediate_values=values,
    )


def trials(space: Space, count: int, *, state: TrialState = TrialState.WAITING) -> list[FrozenTrial]:
    """Trials at spread values of the learning rate, all after their first epoch."""
    given = suggest(space, [], judged(space), 1)
    assert given is not None
    found = []
    for number in range(count):
        params = given.params | {"optim.lr": 10 ** (-5 + 4 * number / max(1, count - 1)), "loss.temperature": 0.2}
        found.append(trial(state, {1: 0.5 - regret(params)}, params, given.distributions))
    return found


def test_place_of_a_running_trial_is_avoided(space: Space) -> None:
    known, places = trials(space, 9), Places(space)
    first = suggest(space, known, judged(space), 9)
    assert first is not None
    running = [*known, trial(TrialState.RUNNING, {}, first.params, first.distributions)]
    draws = [suggest(space, several, judged(space), 9) for several in (known, running)]  # number 9 twice: one seed
    same, other = (places.of([seen_params(space, d.params)])[0] for d in draws if d is not None)
    at = places.of([seen_params(space, first.params)])[0]
    assert np.array_equal(same, at) and np.abs(other - at).max() > 0.1


def test_fixed_values_are_kept(space: Space) -> None:
    for count in (2, 12):  # while random, and with the model
        found = suggest(space, trials(space, count), judged(space), count, fixed={"loss.layer_weighting": "flat"})
        assert found is not None and found.params["loss.layer_weighting"] == "flat"
        assert found.params.keys() == {p.key for p in space.parameters}


def test_warm_trials_lead_to_where_they_were_good(space: Space) -> None:
    given = suggest(space, [], judged(space), 1)
    assert given is not None
    rates = np.geomspace(1e-5, 1e-1, 25)
    warm = [
        trial(TrialState.COMPLETE, {1: -abs(math.log10(r) + 4)}, given.params | {"optim.lr": r}, given.distributions)
        for r in map(float, rates)
    ]
    draws = [suggest(space, [], judged(space), number, warm=warm) for number in (1, 2, 3)]
    assert all(d is not None and 1e-5 <= d.params["optim.lr"] < 1e-3 for d in draws)


def seen(curves: Sequence[tuple[TrialState, dict[int, float]]], rungs: Sequence[int] = (1, 3, 9)) -> list[Any]:
    """The observations of trials with these values: (trial, epoch, value)."""
    found = observations([trial(*c, {}, {}) for c in curves], np.zeros((len(curves), 1)), rungs)
    epochs = np.exp(found.t_N * math.log(rungs[-1])).round().astype(int).tolist()
    return list(zip(found.run_N.tolist(), epochs, found.y_N.tolist(), strict=True))


def test_values_at_rungs_and_the_last_ones_are_observed() -> None:
    curve = {e: 0.1 * e for e in range(1, 8)}
    found = seen([(TrialState.WAITING, curve), (TrialState.RUNNING, {1: 0.2, 2: 0.4}), (TrialState.RUNNING, {})])
    assert [(run, epoch) for run, epoch, _ in found] == [(0, 1), (0, 3), (0, 7), (1, 1), (1, 2)]
    values = np.array([v for _, _, v in found])
    assert values.mean() == pytest.approx(0) and values.std() == pytest.approx(1)
    assert values == pytest.approx((np.array([0.1, 0.3, 0.7, 0.2, 0.4]) - 0.34) / np.std([0.1, 0.3, 0.7, 0.2, 0.4]))


def test_failed_trial_is_as_bad_as_any_and_bad_ones_do_not_decide_the_scale() -> None:
    good = [(TrialState.WAITING, {1: value}) for value in (0.5, 0.6, 0.7)]
    found = seen([*good, (TrialState.FAIL, {1: 0.65, 2: 0.9}), (TrialState.FAIL, {}), (TrialState.WAITING, {1: -5.0})])
    by_place = {(run, epoch): value for run, epoch, value in found}
    worst = min(by_place.values())
    assert by_place[3, 3] == by_place[4, 1] == by_place[5, 1] == worst
    top, middle = by_place[3, 2], by_place[2, 1]
    assert top > middle > worst and top - worst < 2 * CLIP


def test_without_a_value_nothing_is_observed() -> None:
    assert seen([(TrialState.RUNNING, {}), (TrialState.FAIL, {})]) == []


def test_of_many_observations_the_last_of_each_trial_stay() -> None:
    whole = {1: 0.1, 3: 0.2, 9: 0.3}
    found = seen([(TrialState.COMPLETE, whole)] * 200)
    assert len(found) == MOST and {run for run, epoch, _ in found if epoch == 9} == set(range(200))
    many = seen([(TrialState.WAITING, {1: number / 1000}) for number in range(2 * MOST)])
    assert len(many) == MOST and {many[0][0], many[-1][0]} == {0, 2 * MOST - 1}


def test_training_of_one_epoch_has_one_time(space: Space) -> None:
    assert [epoch for _, epoch, _ in seen([(TrialState.COMPLETE, {1: 0.5})], rungs=(1,))] == [1]

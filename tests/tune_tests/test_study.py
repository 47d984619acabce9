from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tune.space import SearchSettings, Space, load_space
from tune.study import SearchStudy

SAMPLERS = ("tpe", "random", "grid")


@pytest.fixture
def make_space(space_file: Path) -> Callable[..., Space]:
    """make_space(sampler=.., trials=..): the tiny search over countable values, so that every sampler takes it."""
    lr = '"optim.lr" = { low = 1e-5, high = 1e-1, log = true }'
    space_file.write_text(space_file.read_text().replace(lr, '"model.decoder_layers" = { low = 1, high = 4 }'))
    space = load_space(space_file)

    def make(**changes: object) -> Space:
        return dataclasses.replace(space, search=dataclasses.replace(space.search, **changes))

    return make


def value_of(params: dict[str, object]) -> float:
    return 0.1 * float(params["model.decoder_layers"]) + 0.3 * (params["loss.layer_weighting"] == "linear")  # type: ignore[arg-type]


def run(study: SearchStudy, trials: int = 10**6) -> list[tuple[int, dict[str, object]]]:
    """Run up to `trials` trials one after the other, all complete."""
    done = []
    while len(done) < trials and (given := study.next()) is not None:
        number, params = given
        for epoch in (1, 2):
            study.report(number, epoch, value_of(params) * epoch)
        study.finish(number, TrialState.COMPLETE, {})
        done.append((number, params))
    return done


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_default_configuration_is_trial_0_and_the_budget_is_kept(
    tmp_path: Path, make_space: Callable[..., Space], sampler: str
) -> None:
    space = make_space(sampler=sampler, trials=7)
    done = run(SearchStudy(tmp_path / "study.db", space))
    assert [number for number, _ in done] == list(range(7)) and done[0][1] == space.default_params
    assert all(p.contains(params[p.key]) for _, params in done for p in space.parameters)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_resumed_study_suggests_what_an_uninterrupted_one_would(
    tmp_path: Path, make_space: Callable[..., Space], sampler: str
) -> None:
    space = make_space(sampler=sampler, trials=8)
    whole = run(SearchStudy(tmp_path / "whole.db", space))
    parts = [done for _ in range(4) for done in run(SearchStudy(tmp_path / "parts.db", space), trials=2)]
    assert parts == whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_other_seed_draws_other_configurations(tmp_path: Path, make_space: Callable[..., Space], sampler: str) -> None:
    drawn = [run(SearchStudy(tmp_path / f"{s}.db", make_space(sampler=sampler, trials=6, seed=s)))[1:] for s in (0, 1)]
    assert drawn[0] != drawn[1]


def test_grid_visits_every_configuration_once(tmp_path: Path, make_space: Callable[..., Space]) -> None:
    done = run(SearchStudy(tmp_path / "study.db", make_space(sampler="grid", trials=8)))
    assert len({tuple(params.items()) for _, params in done}) == len(done) == 8


def test_unfinished_trials_come_first_again_under_their_number(
    tmp_path: Path, make_space: Callable[..., Space]
) -> None:
    space = make_space(trials=4)
    first = SearchStudy(tmp_path / "study.db", space)
    run(first, trials=1)
    interrupted = [first.next(), first.next()]
    again = SearchStudy(tmp_path / "study.db", space)
    assert [again.next(), again.next()] == interrupted
    assert [number for number, _ in run(again)] == [3]
    assert len(again.trials()) == 4


def test_trial_that_was_asked_but_has_no_values_yet_gets_them_on_resume(
    tmp_path: Path, make_space: Callable[..., Space]
) -> None:
    space = make_space(trials=2)
    expected = run(SearchStudy(tmp_path / "whole.db", space))
    run(SearchStudy(tmp_path / "study.db", space), trials=1)
    optuna.load_study(study_name=space.name, storage=f"sqlite:///{tmp_path / 'study.db'}").ask()
    assert SearchStudy(tmp_path / "study.db", space).next() == expected[1]


def test_states_are_told_honestly(tmp_path: Path, make_space: Callable[..., Space]) -> None:
    study = SearchStudy(tmp_path / "study.db", make_space(trials=3))
    for state, values in (
        (TrialState.COMPLETE, [0.2, 0.6, 0.5]),
        (TrialState.PRUNED, [0.3, 0.1]),
        (TrialState.FAIL, [0.4, math.nan]),
    ):
        given = study.next()
        assert given is not None
        for epoch, value in enumerate(values, start=1):
            study.report(given[0], epoch, value)
        study.finish(given[0], state, {"seconds": 1.5})
    complete, pruned, failed = study.trials()
    assert complete.value == 0.6 and complete.intermediate_values == {1: 0.2, 2: 0.6, 3: 0.5}
    assert pruned.state == TrialState.PRUNED and pruned.value == 0.1 and pruned.user_attrs == {"seconds": 1.5}
    assert failed.state == TrialState.FAIL and failed.value is None and failed.intermediate_values == {1: 0.4}


def test_epoch_reported_twice_keeps_its_first_value(tmp_path: Path, make_space: Callable[..., Space]) -> None:
    study = SearchStudy(tmp_path / "study.db", make_space(trials=1))
    study.next()
    study.report(0, 1, 0.5)
    study.report(0, 1, 0.7)
    assert study.trial(0).intermediate_values == {1: 0.5}


def test_study_opens_in_optuna_as_it_is(tmp_path: Path, make_space: Callable[..., Space]) -> None:
    space = make_space(trials=12)
    run(SearchStudy(tmp_path / "study.db", space))
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert study.best_value == pytest.approx(2 * 0.7) and study.best_params["loss.layer_weighting"] == "linear"


def test_tpe_finds_a_peak_that_random_sampling_misses(tmp_path: Path, space_file: Path) -> None:
    space = load_space(space_file)

    def best(sampler: str) -> float:
        search = SearchSettings(sampler=sampler, trials=25)
        study = SearchStudy(tmp_path / f"{sampler}.db", dataclasses.replace(space, search=search))
        while (given := study.next()) is not None:
            study.report(given[0], 1, -abs(math.log10(given[1]["optim.lr"] / 0.02)))
            study.finish(given[0], TrialState.COMPLETE, {})
        return max(t.value or -9.0 for t in study.trials())

    assert best("tpe") > -0.1 and best("tpe") > best("random")

"""What every sampler must do, through the study as a search uses it."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from tests.tune_tests.study.plays import COUNTABLE, Played, play, value_of
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.halving import Pause
from tune.study.sampler import directions
from tune.study.sampler_view import seen, study_params
from tune.study.study import SearchStudy

SAMPLERS = ["tpe", "gp", "gp_curves", "cmaes", "nsga2", "random", "qmc", "grid"]


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> str:
    if request.param == "cmaes":
        pytest.importorskip("cmaes")
    return str(request.param)


@pytest.fixture
def make_space(space_file: Path) -> Callable[..., Space]:
    """make_space(sampler=.., trials=..): the tiny search over countable values, one of them conditional."""
    text = space_file.read_text()
    start, end = text.index('"optim.lr" ='), text.index('"decode.epsilon"')
    space_file.write_text(text[:start] + COUNTABLE + text[end:])
    space = load_space(space_file, {"loss.layer": 0.3})

    def make(**changes: object) -> Space:
        search = dataclasses.replace(space.search, **{"scheduler": "asha", "trials": 14} | changes)
        return dataclasses.replace(space, search=search)

    return make


@pytest.fixture(scope="module")
def played() -> Played:
    """sampler -> its whole search, filled by the first test of each."""
    return {}


def test_every_suggestion_is_whole_and_in_range(
    tmp_path: Path, make_space: Callable[..., Space], sampler: str, played: Played
) -> None:
    space = make_space(sampler=sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = played[sampler] = play(SearchStudy(tmp_path / "study.db", space))
    drawn = {number: params for number, _, params in done}
    assert len(drawn) == 14 and drawn[0] == space.default_params
    by_key = {p.key: p for p in space.parameters}
    for params in drawn.values():
        assert all(by_key[key].contains(value) for key, value in params.items())
        conditional = {"loss.layer_weighting"} if params["loss.layer"] else set()
        assert params.keys() == {"model.decoder_layers", "loss.layer"} | conditional
        space.configuration(params)


def test_search_resumed_twice_draws_what_an_uninterrupted_one_did(
    tmp_path: Path, make_space: Callable[..., Space], sampler: str, played: Played
) -> None:
    space = make_space(sampler=sampler)
    whole = played.get(sampler) or play(SearchStudy(tmp_path / "whole.db", space))
    parts = [job for jobs in (5, 9, 100) for job in play(SearchStudy(tmp_path / "parts.db", space), jobs)]
    assert parts == whole
    assert play(SearchStudy(tmp_path / "other.db", make_space(sampler=sampler, seed=1)), jobs=6) != whole[:6]


def test_quasi_random_points_are_the_sobol_sequence(tmp_path: Path, space_file: Path) -> None:
    from scipy.stats import qmc

    text = space_file.read_text().replace(
        '"loss.layer_weighting" = { values = ["flat", "linear"] }', '"loss.layer" = { low = 0, high = 1 }'
    )
    space_file.write_text(text.replace("trials = 5", 'trials = 17\nsampler = "qmc"\nscheduler = "fifo"'))
    study = SearchStudy(tmp_path / "study.db", load_space(space_file))
    points = []
    while not isinstance(job := study.next_job(), Pause):
        config = job.config
        points.append([(math.log10(config.optim.lr) + 5) / 4, config.loss.layer])
        study.report(job.number, 4, 0.5)
        study.finish(job.number, TrialState.COMPLETE, {})
    # 16 points of a scrambled Sobol sequence: one in each cell of 4 x 4, whatever the scrambling
    cells = {(int(4 * x), int(4 * y)) for x, y in points[1:]}
    assert len(cells) >= 14 and qmc.discrepancy(points[1:]) < 0.02


def test_no_configuration_is_drawn_twice_and_a_space_that_is_used_up_ends_the_search(
    tmp_path: Path, make_space: Callable[..., Space], sampler: str
) -> None:
    space = make_space(sampler=sampler, trials=200)
    assert space.size == 4 * (1 + 10 * 2)
    layers, *others = space.parameters
    fewer = dataclasses.replace(space, parameters=(layers,))
    conditional = dataclasses.replace(space, parameters=(dataclasses.replace(layers, high=2), *others))
    for part, count in ((fewer, 4), (conditional, 42)) if sampler in ("random", "grid") else ((fewer, 4),):
        study = SearchStudy(tmp_path / f"{count}.db", part)
        play(study)
        drawn = [tuple(sorted(t.params.items())) for t in study.trials()]
        assert len(drawn) == count == len(set(drawn))
        assert set(drawn) == {tuple(sorted(part.encoded(point).items())) for point in part.grid()}  # 0.3, not 0.1 + 0.2


def test_budget_of_a_countable_space_is_at_most_its_size(space_file: Path, make_space: Callable[..., Space]) -> None:
    make_space()  # writes the countable space
    space = load_space(space_file, {"loss.layer": 0.3})
    assert space.with_budget(trials=1000).search.trials == 84 and space.with_budget(trials=50).search.trials == 50
    space_file.write_text(space_file.read_text().replace("trials = 5", "hours = 2"))
    assert load_space(space_file, {"loss.layer": 0.3}).search.trials == 0  # the plan promises no more than two hours


def test_sampler_sees_numbers_among_values_in_their_order(tmp_path: Path, space_file: Path) -> None:
    lr = '"optim.lr" = { low = 1e-5, high = 1e-1, log = true }'
    space_file.write_text(space_file.read_text().replace(lr, '"optim.lr" = { values = [1e-3, 3e-2, 1e-4, 3e-3] }'))
    space = load_space(space_file)
    study = SearchStudy(tmp_path / "study.db", space)
    play(study)
    stored = study.trials()
    assert len({t.params["optim.lr"] for t in stored}) > 2
    for found in stored:
        # the study holds the rate itself, as Optuna's tools show it; a sampler its place among 1e-4, 1e-3, 3e-3, 3e-2
        assert found.distributions["optim.lr"] == CategoricalDistribution((1e-3, 3e-2, 1e-4, 3e-3))
        shown = seen(space, found)
        assert shown.distributions["optim.lr"] == IntDistribution(0, 3)
        assert [1e-4, 1e-3, 3e-3, 3e-2][shown.params["optim.lr"]] == found.params["optim.lr"]
        assert shown.params["loss.layer_weighting"] == found.params["loss.layer_weighting"]
        assert study_params(space, shown.params) == found.params


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_sampler_of_several_objectives_trades_one_for_the_other(
    tmp_path: Path, make_space: Callable[..., Space], sampler: str
) -> None:
    names = ("val/accuracy", "decoder_parameters")
    space = make_space(sampler=sampler, scheduler="fifo", objectives=names, trials=10)
    study = SearchStudy(tmp_path / "study.db", space)
    while not isinstance(job := study.next_job(), Pause):
        params = study.params(study.trial(job.number))
        study.report(job.number, 4, value_of(params, 4))
        study.finish(job.number, TrialState.COMPLETE, {}, others=[float(job.config.model.decoder_layers)])
    found = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [d.name for d in found.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(t.values == [value_of(study.params(t), 4), t.params["model.decoder_layers"]] for t in found.trials)
    assert len({t.params["model.decoder_layers"] for t in found.best_trials}) > 1


def test_accuracy_and_f1_are_maximised_and_the_rest_minimised(make_space: Callable[..., Space]) -> None:
    names = ("val/accuracy", "inference_seconds", "val/f1")
    space = make_space(sampler="nsga2", scheduler="fifo", objectives=names, trials=4)
    assert [d.name for d in directions(space)] == ["MAXIMIZE", "MINIMIZE", "MAXIMIZE"]

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tune.spaces.read import load_space
from tune.spaces.settings import SearchSettings
from tune.spaces.space import Space
from tune.study.halving import Pause
from tune.study.study import SearchStudy

SAMPLERS = ("tpe", "random", "grid")


@pytest.fixture
def make_space(space_file: Path) -> Callable[..., Space]:
    """make_space(sampler=.., trials=..): the tiny search over countable values, so that every sampler takes it."""
    lr = '"optim.lr" = { low = 1e-5, high = 1e-1, log = true }'
    space_file.write_text(space_file.read_text().replace(lr, '"model.decoder_layers" = { low = 1, high = 8 }'))
    space = load_space(space_file)

    def make(**changes: object) -> Space:
        return dataclasses.replace(space, search=dataclasses.replace(space.search, **{"scheduler": "fifo"} | changes))

    return make


def value_of(params: dict[str, object]) -> float:
    return 0.1 * float(params["model.decoder_layers"]) + 0.3 * (params["loss.layer_weighting"] == "linear")  # type: ignore[arg-type]


def run(study: SearchStudy, trials: int = 10**6) -> list[tuple[int, dict[str, object]]]:
    """Run up to `trials` trials one after the other, all complete."""
    done = []
    while len(done) < trials and (given := take(study)) is not None:
        number, params = given
        for epoch in (1, 2, 3, 4):
            study.report(number, epoch, value_of(params) * epoch)
        study.finish(number, TrialState.COMPLETE, {})
        done.append((number, params))
    return done


def take(study: SearchStudy) -> tuple[int, dict[str, object]] | None:
    """The number and the searched values of the next job, None when there is none."""
    job = study.next_job()
    return None if isinstance(job, Pause) else (job.number, study.params(study.trial(job.number)))


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
    interrupted = [take(first), take(first)]
    again = SearchStudy(tmp_path / "study.db", space)
    assert [take(again), take(again)] == interrupted
    assert [number for number, _ in run(again)] == [3]
    assert len(again.trials()) == 4


def test_states_are_told_honestly(tmp_path: Path, make_space: Callable[..., Space]) -> None:
    study = SearchStudy(tmp_path / "study.db", make_space(trials=3))
    for state, values in (
        (TrialState.COMPLETE, [0.2, 0.6, 0.5]),
        (TrialState.PRUNED, [0.3, 0.1]),
        (TrialState.FAIL, [0.4, math.nan]),
    ):
        given = take(study)
        assert given is not None
        for epoch, value in enumerate(values, start=1):
            study.report(given[0], epoch, value)
        study.finish(given[0], state, {"seconds": 1.5})
    complete, pruned, failed = study.trials()
    assert complete.value == 0.6 and complete.intermediate_values == {1: 0.2, 2: 0.6, 3: 0.5}
    assert pruned.state == TrialState.PRUNED and pruned.value == 0.1 and pruned.user_attrs["seconds"] == 1.5
    assert failed.state == TrialState.FAIL and failed.value is None and failed.intermediate_values == {1: 0.4}


def test_epoch_reported_twice_keeps_its_first_value(tmp_path: Path, make_space: Callable[..., Space]) -> None:
    study = SearchStudy(tmp_path / "study.db", make_space(trials=1))
    take(study)
    study.report(0, 1, 0.5)
    study.report(0, 1, 0.7)
    assert study.trial(0).intermediate_values == {1: 0.5}


def test_study_opens_in_optuna_as_it_is(tmp_path: Path, make_space: Callable[..., Space]) -> None:
    space = make_space(trials=12)
    run(SearchStudy(tmp_path / "study.db", space))
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert study.best_value == pytest.approx(4 * 1.1) and study.best_params["loss.layer_weighting"] == "linear"


def test_tpe_finds_a_peak_that_random_sampling_misses(tmp_path: Path, space_file: Path) -> None:
    space = load_space(space_file)

    def best(sampler: str) -> float:
        search = SearchSettings(sampler=sampler, scheduler="fifo", trials=25)
        study = SearchStudy(tmp_path / f"{sampler}.db", dataclasses.replace(space, search=search))
        while (given := take(study)) is not None:
            study.report(given[0], 4, -abs(math.log10(given[1]["optim.lr"] / 0.02)))
            study.finish(given[0], TrialState.COMPLETE, {})
        return max(t.value or -9.0 for t in study.trials())

    assert best("tpe") > -0.1 and best("tpe") > best("random")


def curve(params: dict[str, object], epoch: int) -> float:
    return value_of(params) * (1 - 0.5**epoch)


def test_jobs_of_a_trial_end_at_its_rungs_and_the_default_goes_straight_through(
    tmp_path: Path, make_space: Callable[..., Space]
) -> None:
    study = SearchStudy(tmp_path / "study.db", make_space(trials=9, scheduler="asha", sampler="random"))
    jobs = play(study)
    assert jobs[0] == (0, 4) and {until for number, until in jobs if number} == {1, 3, 4}
    states = {t.number: (t.state, len(t.intermediate_values)) for t in study.trials()}
    assert states[0] == (TrialState.COMPLETE, 4) and len(states) == 9
    assert set(states.values()) == {(TrialState.COMPLETE, 4), (TrialState.PRUNED, 1), (TrialState.PRUNED, 3)}
    rivals = [n for n, (state, _) in states.items() if n and state == TrialState.COMPLETE]
    assert rivals and max(study.trials(), key=lambda t: t.intermediate_values[1]).number in (0, *rivals)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_search_resumed_after_any_job_takes_the_same_jobs(
    tmp_path: Path, make_space: Callable[..., Space], scheduler: str, sampler: str
) -> None:
    space = make_space(trials=12, scheduler=scheduler, sampler=sampler)
    whole = play(SearchStudy(tmp_path / "whole.db", space))
    parts: list[tuple[int, int]] = []
    for _ in range(0, len(whole), 4):
        parts += play(SearchStudy(tmp_path / "parts.db", space), jobs=4, end=False)
    assert parts == whole and len(whole) > 12


def play(study: SearchStudy, jobs: int = 10**6, *, end: bool = True) -> list[tuple[int, int]]:
    """Run jobs one after the other; (number, until) of each. At the end whoever waits is pruned."""
    done = []
    while len(done) < jobs and not isinstance(job := study.next_job(), Pause):
        trial = study.trial(job.number)
        for epoch in range(len(trial.intermediate_values) + 1, job.until + 1):
            study.report(job.number, epoch, curve(study.params(trial), epoch))
        if job.until == study.ladder.epochs:
            study.finish(job.number, TrialState.COMPLETE, {})
        else:
            study.end_job(job.number)
        done.append((job.number, job.until))
    for trial in study.trials() if end else []:
        if not trial.state.is_finished():
            study.finish(trial.number, TrialState.PRUNED, {})
    return done

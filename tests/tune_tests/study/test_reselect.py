"""The last trials of a search: its best configurations again, with a fresh seed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.tune_tests.study.plays import COUNTABLE, Played, play
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.halving import Pause
from tune.study.reselect import best_trials, fresh_seed, is_repeat
from tune.study.study import Job, SearchStudy


@pytest.fixture
def space(space_file: Path) -> Space:
    """A search of 12 trials that promotes, then repeats the best three."""
    text = space_file.read_text()
    start, end = text.index('"optim.lr" ='), text.index('"decode.epsilon"')
    space_file.write_text(text[:start] + COUNTABLE + text[end:])
    space = load_space(space_file, {"loss.layer": 0.3})
    search = dataclasses.replace(space.search, scheduler="asha", trials=12, reselect=3)
    return dataclasses.replace(space, search=search)


def without(space: Space) -> Space:
    return dataclasses.replace(space, search=dataclasses.replace(space.search, reselect=0))


def end(study: SearchStudy, job: Job, state: TrialState = TrialState.COMPLETE) -> None:
    for epoch in range(1, job.until + 1):
        study.report(job.number, epoch, 0.5)
    study.finish(job.number, state, {})


def test_the_best_train_again_in_full_with_one_fresh_seed(tmp_path: Path, space: Space) -> None:
    before = play(SearchStudy(tmp_path / "without.db", without(space)))
    study = SearchStudy(tmp_path / "study.db", space)
    done = play(study)
    assert done[: len(before)] == before  # the search itself is the same
    repeats = [number for number, _, _ in done[len(before) :]]
    assert repeats == [12, 13, 14] and {until for _, until, _ in done[len(before) :]} == {4}
    best = best_trials(study.trials(), 3)
    assert [study.trial(n).params for n in repeats] == [t.params for t in best]
    for number in range(15):
        config, plain = study.configuration(number), space.configuration(study.params(study.trial(number)))
        seed = fresh_seed(space) if number in repeats else plain.train.seed
        assert config == dataclasses.replace(plain, train=dataclasses.replace(plain.train, seed=seed))
    assert fresh_seed(space) != space.base.train.seed
    found = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [t.state for t in found.trials[12:]] == [TrialState.COMPLETE] * 3


@pytest.mark.parametrize("sampler", ["tpe", "gp_curves", "grid"])
def test_resumed_at_any_job_it_repeats_the_same(tmp_path: Path, space: Space, sampler: str) -> None:
    space = dataclasses.replace(space, search=dataclasses.replace(space.search, sampler=sampler))
    played: Played = {"whole": play(SearchStudy(tmp_path / "whole.db", space))}
    count = len(played["whole"])
    for stop in (count - 4, count - 2):
        parts = tmp_path / f"{stop}.db"
        first = play(SearchStudy(parts, space), stop)
        assert first + play(SearchStudy(parts, space)) == played["whole"]


def test_repeats_wait_for_running_trials_and_run_beside_each_other(tmp_path: Path, space: Space) -> None:
    study = SearchStudy(tmp_path / "study.db", space)
    count = len(play(SearchStudy(tmp_path / "whole.db", space)))
    play(study, count - 4)
    last = study.next_job()
    assert isinstance(last, Job) and not is_repeat(study.trial(last.number))
    assert study.next_job() is Pause.WAIT
    study.report(last.number, last.until, 0.1)
    for epoch in range(1, last.until):
        study.report(last.number, epoch, 0.1)
    if last.until == study.ladder.epochs:
        study.finish(last.number, TrialState.COMPLETE, {})
    else:
        study.end_job(last.number)
    jobs = [study.next_job() for _ in range(3)]
    assert all(isinstance(job, Job) and is_repeat(study.trial(job.number)) for job in jobs)
    assert study.next_job() is Pause.WAIT
    for job in jobs:
        assert isinstance(job, Job)
        end(study, job)
    assert study.next_job() is Pause.FINISHED


def test_interrupted_repeat_goes_on_and_a_failed_one_is_not_tried_again(tmp_path: Path, space: Space) -> None:
    study = SearchStudy(tmp_path / "study.db", space)
    count = len(play(SearchStudy(tmp_path / "whole.db", space)))
    play(study, count - 3)
    first = study.next_job()
    assert isinstance(first, Job)
    study.report(first.number, 1, 0.4)
    again = SearchStudy(tmp_path / "study.db", space)  # as after a kill
    same = again.next_job()
    assert isinstance(same, Job) and (same.number, same.until, same.config) == (first.number, 4, first.config)
    again.interrupt(same.number, aside=True)
    second = again.next_job()
    assert isinstance(second, Job) and second.number != first.number
    again.finish(second.number, TrialState.FAIL, {"reason": "diverged"})
    third = again.next_job()
    assert isinstance(third, Job) and third.number not in (first.number, second.number)
    end(again, third)
    assert again.next_job() is Pause.FINISHED


def test_a_larger_budget_searches_on_without_the_repeats_and_repeats_what_is_new(tmp_path: Path, space: Space) -> None:
    play(SearchStudy(tmp_path / "study.db", space))
    shutil.copyfile(tmp_path / "study.db", tmp_path / "less.db")
    more = dataclasses.replace(space, search=dataclasses.replace(space.search, trials=20))
    study = SearchStudy(tmp_path / "study.db", more)
    play(study)
    trials = study.trials()
    assert sum(not is_repeat(t) for t in trials) == 20
    repeated = [t.params for t in trials if is_repeat(t)]
    assert len(repeated) == len({tuple(sorted(p.items())) for p in repeated})
    assert all(t.params in repeated for t in best_trials(trials, 3))


def test_limit_of_epochs_holds_with_the_repeats(tmp_path: Path, space: Space) -> None:
    for limit in ((2 + 3) * 4 + 6, 60, 64):  # the search goes on twice with a larger one
        search = dataclasses.replace(space.search, trials=0, epochs=limit)
        study = SearchStudy(tmp_path / "study.db", dataclasses.replace(space, search=search))
        play(study)
        assert sum(len(t.intermediate_values) for t in study.trials()) <= limit
        assert sum(is_repeat(t) for t in study.trials()) >= 3
        assert study.next_job() is Pause.FINISHED


def test_out_of_time_nothing_is_repeated(tmp_path: Path, space: Space) -> None:
    count = len(play(SearchStudy(tmp_path / "whole.db", space)))
    study = SearchStudy(tmp_path / "study.db", space)
    play(study, count - 3)
    assert study.next_job(out_of_time=True) is Pause.FINISHED
    assert isinstance(study.next_job(), Job)  # with time there would be one

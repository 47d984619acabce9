from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from nmt.errors import UserError
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study import warm_start
from tune.study.halving import Ladder, Pause
from tune.study.study import SearchStudy


def warm_trials(space: Space, directory: Path, ladder: Ladder) -> list[FrozenTrial]:
    return warm_start.warm_trials(space, directory / "warm_start.json", ladder, study_file="study.db")


def value_of(study: SearchStudy, number: int) -> float:
    return 1 - abs(math.log10(study.configuration(number).optim.lr / 0.02)) / 4


def play(study: SearchStudy) -> list[float]:
    """The value of each trial, all in full."""
    while not isinstance(job := study.next_job(), Pause):
        study.report(job.number, 4, value_of(study, job.number))
        study.finish(job.number, TrialState.COMPLETE, {})
    return [t.value or 0.0 for t in study.trials()]


@pytest.fixture
def space(space_file: Path) -> Space:
    text = space_file.read_text()
    space_file.write_text(text.replace("trials = 5", 'trials = 24\nscheduler = "fifo"'))
    return load_space(space_file)


def started_from(space: Space, source: Path) -> Space:
    return dataclasses.replace(
        space, search=dataclasses.replace(space.search, warm_start=str(source), trials=4, seed=5)
    )


def test_search_that_knows_another_begins_where_that_ended(space: Space, tmp_path: Path) -> None:
    first = play(SearchStudy(tmp_path / "study.db", space))
    second = started_from(space, tmp_path)
    warm = warm_trials(second, tmp_path / "second", SearchStudy(tmp_path / "x.db", second).ladder)
    # the order of the other search, and none of its values: they may be of another data set
    assert len(warm) == 24 and [t.value for t in warm] != first
    assert sorted(range(24), key=lambda n: first[n]) == sorted(range(24), key=lambda n: warm[n].value or 0.0)
    study = SearchStudy(tmp_path / "second.db", second, warm=warm)
    begun, cold = play(study)[1:], play(SearchStudy(tmp_path / "cold.db", second))[1:]
    assert min(begun) > 0.6 and sum(begun) > sum(cold)
    assert len(study.trials()) == 4  # its own alone


def test_warm_start_survives_the_loss_of_the_other_search(space: Space, tmp_path: Path) -> None:
    study = SearchStudy(tmp_path / "study.db", space)
    play(study)
    second, directory = started_from(space, tmp_path / "study.db"), tmp_path / "second"
    before = warm_trials(second, directory, study.ladder)
    warm_start.keep(second, directory / "warm_start.json", before)
    (tmp_path / "study.db").unlink()
    after = warm_trials(second, directory, study.ladder)
    assert [(t.params, t.value, t.distributions) for t in after] == [
        (t.params, t.value, t.distributions) for t in before
    ]


def test_study_that_optuna_alone_made_is_taken_within_the_space(space: Space, tmp_path: Path) -> None:
    other = optuna.create_study(storage=f"sqlite:///{tmp_path / 'other.db'}", study_name="other", direction="minimize")
    for lr in (1e-3, 0.5, 1e-2):
        other.enqueue_trial({"optim.lr": lr, "loss.layer_weighting": "flat"})

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("loss.layer_weighting", ["flat", "linear"])
        return trial.suggest_float("optim.lr", 1e-6, 1.0)

    other.optimize(objective, n_trials=3)
    ladder = SearchStudy(tmp_path / "x.db", space).ladder
    warm = warm_trials(started_from(space, tmp_path / "other.db"), tmp_path / "second", ladder)
    assert [t.params["optim.lr"] for t in warm] == [1e-3, 1e-2]  # 0.5 lies outside
    assert (warm[0].value or 0.0) > (warm[1].value or 0.0)  # less was better there


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such study; give a search's directory or its study.db"), ("thesis", "not the study of one search")],
)
def test_no_study_there_is_said_in_a_line(space: Space, tmp_path: Path, content: str | None, message: str) -> None:
    if content:
        (tmp_path / "study.db").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        warm_trials(started_from(space, tmp_path), tmp_path / "second", SearchStudy(tmp_path / "x.db", space).ladder)
    assert "\n" not in str(caught.value)


def test_study_of_other_keys_is_refused(space: Space, tmp_path: Path) -> None:
    other = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}")
    other.optimize(lambda trial: trial.suggest_float("optim.lr", 0, 1) + trial.suggest_float("loss.layer", 0, 1), 2)
    with pytest.raises(UserError, match="other keys: loss.layer only there; loss.layer_weighting only here"):
        warm_trials(started_from(space, tmp_path), tmp_path / "second", SearchStudy(tmp_path / "x.db", space).ladder)

"""The steps of a trial of several workers, with a real control actor, and once with real workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from nmt.config import Config, to_dict, with_overrides
from nmt.training.history import read_metrics
from nmt.training.loop import train
from tune.jobs.control import open_control
from tune.jobs.distributed import WorkersTrial
from tune.jobs.protocol import TrialSetup
from tune.jobs.trainable import make_trainable
from tune.results.storage import Storage
from tune.spaces.read import load_space
from tune.spaces.settings import Resources


@pytest.fixture
def setup(ray_running: None, tiny_data: Path, tmp_path: Path) -> Iterator[TrialSetup]:
    with open_control() as control:
        yield TrialSetup(
            data=str(tiny_data), directory=tmp_path / "search", decode_grid=(), resources=Resources(workers=2),
            storage=None, control=control,
        )  # fmt: skip


@pytest.fixture
def base(space_file: Path) -> Config:
    return load_space(space_file).base


def job(config: Config, number: int, until: int) -> dict[str, Any]:
    return {"number": number, "configuration": to_dict(config), "until": until}


Begin = Callable[..., WorkersTrial]


@pytest.fixture
def begin(setup: TrialSetup) -> Iterator[Begin]:
    """begin(job): the trial as Ray Tune makes it, in this process; what watches the control ends before that does."""
    trials: list[WorkersTrial] = []

    def make(trial: dict[str, Any], shared: TrialSetup = setup) -> WorkersTrial:
        trials.append(make_trainable(shared)(config=trial))
        return trials[-1]

    yield make
    ray.get(setup.control.stop_all.remote())
    assert all(trial._stopping.wait(60) for trial in trials)


@pytest.mark.slow
@pytest.mark.parametrize(("until", "done"), [(2, True), (3, False)])
def test_the_first_step_reports_the_epoch_that_is_there_and_trains_nothing(
    begin: Begin, setup: TrialSetup, base: Config, tiny_data: Path, until: int, done: bool
) -> None:
    folder = setup.directory / "trials" / "003"
    train(base, data=tiny_data, directory=folder, until=2)
    before = (folder / "metrics.jsonl").read_bytes()
    trial = begin(job(base, 3, until))
    accuracy = read_metrics(folder)[-1]["val/accuracy"]
    assert trial.step() == {"number": 3, "epoch": 2, "val/accuracy": accuracy, "done": done}
    assert (folder / "metrics.jsonl").read_bytes() == before
    trial.cleanup()


@pytest.mark.long
@pytest.mark.parametrize("stored", [False, True], ids=["shared", "storage"])
def test_best_weights_that_are_lost_at_the_last_epoch_are_restored_before_it_is_reported(
    begin: Begin, setup: TrialSetup, base: Config, tiny_data: Path, tmp_path: Path, stored: bool
) -> None:
    """Else the driver, which misses them, would give the same job again without end."""
    config = with_overrides(base, {"train.epochs": 1}, source="test")
    home = Storage(str(tmp_path / "storage"), tmp_path / "node") if stored else None
    folder = (home.directory if home else setup.directory) / "trials" / "003"
    train(config, data=tiny_data, directory=folder)
    (folder / "best.pt").unlink()
    if home is not None:
        home.put("trials/003")
    trial = begin(job(config, 3, 1), replace(setup, storage=home and Storage(home.address, setup.directory)))
    found = trial.step()
    assert (found["epoch"], found["done"], "failure" in found) == (1, True, False)
    assert home.holds("best.pt", "trials/003") if home is not None else (folder / "best.pt").is_file()
    assert found["val/accuracy"] == read_metrics(folder)[-1]["val/accuracy"]
    trial.cleanup()


@pytest.mark.slow
def test_a_search_asked_to_stop_ends_a_trial_between_its_epochs(begin: Begin, setup: TrialSetup, base: Config) -> None:
    trial = begin(job(base, 4, 2))
    ray.get(setup.control.stop_all.remote())
    assert trial._stopping.wait(60)
    found = trial.step()
    assert math.isnan(found.pop("val/accuracy"))
    assert found == {"number": 4, "epoch": 0, "interrupted": True, "done": True}
    assert not (setup.directory / "trials" / "004" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_process_is_used_again_for_a_trial_whose_epochs_are_at_the_storage(
    begin: Begin, setup: TrialSetup, base: Config, tiny_data: Path, tmp_path: Path
) -> None:
    """Another node trained it; its metrics come here, its weights stay there."""
    address = str(tmp_path / "storage")
    train(base, data=tiny_data, directory=tmp_path / "node" / "trials" / "006", until=1)
    Storage(address, tmp_path / "node").put("trials/006")
    stored = replace(setup, storage=Storage(address, setup.directory))
    trial = begin(job(base, 5, 1), stored)
    assert trial.reset_config(job(base, 6, 1))
    found = trial.step()
    assert (found["number"], found["epoch"], found["done"]) == (6, 1, True)
    here = setup.directory / "trials" / "006"
    assert read_metrics(here) == read_metrics(tmp_path / "node" / "trials" / "006")
    assert not list(here.glob("*.pt"))


@pytest.mark.long
def test_a_step_is_an_epoch_of_two_workers_and_an_error_that_would_repeat_ends_the_trial(
    begin: Begin, setup: TrialSetup, base: Config, tiny_data: Path, tmp_path: Path
) -> None:
    trial = begin(job(base, 1, 2))
    steps = [trial.step(), trial.step()]
    history = read_metrics(setup.directory / "trials" / "001")
    assert [(s["epoch"], s["val/accuracy"], s["done"]) for s in steps] == [
        (1, history[0]["val/accuracy"], False),
        (2, history[1]["val/accuracy"], True),
    ]
    train(base, data=tiny_data, directory=tmp_path / "alone", until=2)
    alone = [m["train/loss"] for m in read_metrics(tmp_path / "alone")]
    assert [m["train/loss"] for m in history] == pytest.approx(alone, abs=1e-5)

    # A temperature that no float32 can divide by.
    diverging = with_overrides(base, {"loss.temperature": 1e-40}, source="test")
    assert trial.reset_config(job(diverging, 2, 2))
    failed = trial.step()
    assert "the loss is no longer finite" in failed["failure"] and failed["done"] and failed["number"] == 2
    assert math.isnan(failed["val/accuracy"])
    trial.cleanup()

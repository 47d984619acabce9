"""What Ray Tune runs for a trial, in real sessions: one job, a pack, or the class of several workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.tune

from nmt.config import to_dict, with_overrides
from nmt.training.history import read_metrics
from tune.jobs.control import open_control
from tune.jobs.distributed import WorkersTrial
from tune.jobs.protocol import TrialSetup, packed_config
from tune.jobs.trainable import make_trainable
from tune.spaces.read import load_space
from tune.spaces.settings import Resources
from tune.spaces.space import Space


@pytest.fixture
def setup(ray_running: None, tiny_data: Path, tmp_path: Path) -> Iterator[TrialSetup]:
    with open_control() as control:
        yield TrialSetup(
            data=str(tiny_data), directory=tmp_path, decode_grid=(), resources=Resources(), storage=None,
            control=control,
        )  # fmt: skip


class Heard(ray.tune.Callback):
    """One line per event: number, epoch, accuracy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        with self.path.open("a") as file:
            file.write(f"{result['number']} {result['epoch']} {result['val/accuracy']}\n")


def job(space: Space, number: int, lr: float) -> dict[str, Any]:
    config = with_overrides(space.base, {"optim.lr": lr}, source="test")
    return {"number": number, "configuration": to_dict(config), "until": 2}


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(3,), (3, 5)], ids=["one job", "a pack"])
def test_the_function_trains_every_job_of_its_configuration(
    setup: TrialSetup, space_file: Path, numbers: tuple[int, ...]
) -> None:
    space = load_space(space_file)
    config = packed_config([job(space, number, 10.0**-number) for number in numbers])
    results = ray.tune.Tuner(
        make_trainable(setup),
        param_space=config,
        run_config=ray.tune.RunConfig(
            storage_path=str(setup.directory / "ray"), callbacks=[Heard(setup.directory / "heard")], verbose=0
        ),
    ).fit()
    assert not results.errors
    histories = {number: read_metrics(setup.directory / "trials" / f"{number:03d}") for number in numbers}
    expected = [f"{n} {m['epoch']} {m['val/accuracy']}" for n, history in histories.items() for m in history]
    assert sorted((setup.directory / "heard").read_text().splitlines()) == sorted(expected)
    assert len(expected) == 2 * len(numbers)
    assert len({history[-1]["train/loss"] for history in histories.values()}) == len(numbers)
    assert sorted(p.name for p in (setup.directory / "trials").iterdir()) == [f"{n:03d}" for n in numbers]


@pytest.mark.slow
def test_trials_of_several_workers_are_the_class_with_the_setup_of_the_search(
    setup: TrialSetup, space_file: Path
) -> None:
    two = dataclasses.replace(setup, resources=Resources(workers=2))
    trainable = make_trainable(two)
    assert issubclass(trainable, WorkersTrial)
    assert not isinstance(make_trainable(setup), type)
    trial = trainable(config=job(load_space(space_file), 3, 1e-3))
    assert trial._shared.resources.workers == 2 and trial._directory == setup.directory / "trials" / "003"
    ray.get(setup.control.stop_all.remote())
    assert trial._stopping.wait(60)  # the control that it watches is there no more after the test

"""A trial's job on real Ray Tune: what it trains and what it reports, with a folder that holds epochs already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray.tune

from nmt.config import to_dict
from nmt.training.history import read_metrics
from nmt.training.loop import train
from tune.jobs.control import open_control
from tune.jobs.protocol import TrialSetup
from tune.jobs.trainable import make_trainable
from tune.spaces.read import load_space


class Heard(ray.tune.Callback):
    """The (epoch, accuracy) of every event."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        with self.path.open("a") as file:
            file.write(f"{result['number']} {result['epoch']} {result['val/accuracy']}\n")
            if "note" in result:
                file.write(f"note: {result['note']}\n")


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "until", "events"), [(2, 2, [2]), (1, 2, [1, 2]), (0, 1, [1])])
def test_a_job_begins_with_the_epoch_that_is_there_and_trains_the_rest(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, trained: int, until: int, events: list[int]
) -> None:
    """Where its folder holds the job's last epoch already, this one event ends it: nothing is trained."""
    space, folder = load_space(space_file), tmp_path / "trials" / "003"
    if trained:
        train(space.base, data=tiny_data, directory=folder, until=trained)
    before = read_metrics(folder)
    with open_control() as control:
        setup = TrialSetup(
            data=tiny_data, directory=tmp_path, decode_grid=(), resources=space.resources, storage=None, control=control
        )
        job = {"number": 3, "configuration": to_dict(space.base), "until": until}
        results = ray.tune.Tuner(
            make_trainable(setup),
            param_space=job,
            run_config=ray.tune.RunConfig(
                storage_path=str(tmp_path / "ray"), callbacks=[Heard(tmp_path / "heard")], verbose=0
            ),
        ).fit()
    assert not results.errors
    history = read_metrics(folder)
    assert history[:trained] == before and [m["epoch"] for m in history] == list(range(1, until + 1))
    heard = (tmp_path / "heard").read_text().splitlines()
    assert heard == [f"3 {epoch} {history[epoch - 1]['val/accuracy']}" for epoch in events]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_checkpoint_is_a_note_and_its_epoch_is_trained_again(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, packed: bool
) -> None:
    space, folder = load_space(space_file), tmp_path / "trials" / "003"
    train(space.base, data=tiny_data, directory=folder, until=2)
    before = read_metrics(folder)
    flip(folder / "checkpoint.pt")
    job: dict[str, Any] = {"number": 3, "configuration": to_dict(space.base), "until": 3}
    with open_control() as control:
        setup = TrialSetup(
            data=str(tiny_data), directory=tmp_path, decode_grid=(), resources=space.resources, storage=None,
            control=control,
        )  # fmt: skip
        results = ray.tune.Tuner(
            make_trainable(setup),
            param_space=job | ({"pack": [job, job | {"number": 4}]} if packed else {}),
            run_config=ray.tune.RunConfig(
                storage_path=str(tmp_path / "ray"), callbacks=[Heard(tmp_path / "heard")], verbose=0
            ),
        ).fit()
    assert not results.errors
    history = read_metrics(folder)
    assert [m["epoch"] for m in history] == [1, 2, 3]
    assert [m["val/accuracy"] for m in history[:2]] == [m["val/accuracy"] for m in before]
    heard = (tmp_path / "heard").read_text().splitlines()
    assert [line.split()[1] for line in heard if line.startswith("3 ")] == ["2", "2", "3"]
    told = "note: checkpoint.pt is damaged; resuming from the one before, after epoch 1, step 0"
    assert [line for line in heard if line.startswith("note")] == [told]

"""What the jobs of a search report to its driver."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.training.history import Progress, write_metrics
from tune.jobs.protocol import (
    FAILURE,
    INTERRUPTED,
    TrialSetup,
    event,
    failure,
    interrupted,
    members,
    packed_config,
    trial_directory,
)
from tune.spaces.settings import Resources

TRIAL = {"number": 7}


@pytest.fixture
def setup(tmp_path: Path) -> TrialSetup:
    return TrialSetup(
        data="data", directory=tmp_path, decode_grid=(), resources=Resources(), storage=None, control=None
    )


def test_an_event_is_the_last_epoch_in_the_folder(setup: TrialSetup) -> None:
    first = event(setup, TRIAL)
    assert (first["number"], first["epoch"]) == (7, 0) and math.isnan(first["val/accuracy"])
    folder = setup.directory / "trials/007"
    folder.mkdir(parents=True)
    epochs = [{"epoch": n, "val/accuracy": n / 10} for n in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in epochs))
    assert event(setup, TRIAL) == {"number": 7, "epoch": 2, "val/accuracy": 0.2}
    failed, stopped = failure(setup, TRIAL, ValueError("why")), interrupted(setup, TRIAL)
    assert failed[FAILURE] == "why" and stopped[INTERRUPTED] is True
    assert failed["epoch"] == stopped["epoch"] == 2
    assert math.isnan(failed["val/accuracy"]) and math.isnan(stopped["val/accuracy"])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_jobs_of_a_pack_come_back_in_order(count: int) -> None:
    jobs = [{"number": n, "until": 3} for n in range(count)]
    packed = packed_config(jobs)
    assert members(packed) == jobs and packed["number"] == 0 and ("pack" in packed) == (count > 1)


JOB = {"number": 7, "configuration": {"train": {"epochs": 4}}, "until": 4}

jobs = st.fixed_dictionaries(
    {
        "number": st.integers(0, 10**6),
        "configuration": st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4),
        "until": st.integers(1, 100),
    }
)


def trained(setup: TrialSetup, *accuracies: float) -> None:
    """Leave in the folder of trial 7 what a training of so many epochs does."""
    history = [
        {"epoch": epoch, "val/accuracy": value, "train/loss": 1.0, "decode/epsilon": 0.2}
        for epoch, value in enumerate(accuracies, start=1)
    ]
    trial_directory(setup, JOB).mkdir(parents=True, exist_ok=True)
    write_metrics(trial_directory(setup, JOB), Progress(epoch=len(history), history=history))


@given(st.lists(jobs, min_size=1, max_size=6))
def test_members_of_a_packed_configuration_are_its_jobs(pack: list[dict[str, Any]]) -> None:
    before = json.dumps(pack)
    config = packed_config(pack)
    assert members(config) == pack and members(json.loads(json.dumps(config))) == pack
    assert ("pack" in config) == (len(pack) > 1)
    assert all(config[key] == pack[0][key] for key in pack[0])  # what Ray Tune shows of a pack
    assert json.dumps(pack) == before


def test_a_configuration_holds_copies_of_its_jobs() -> None:
    pack = [dict(JOB), dict(JOB) | {"number": 8}]
    alone, packed = packed_config(pack[:1]), packed_config(pack)
    alone["number"] = packed["pack"][1]["number"] = 99
    assert [job["number"] for job in pack] == [7, 8]


def test_an_event_has_number_epoch_and_metric_of_the_last_epoch_and_nothing_else(setup: TrialSetup) -> None:
    trained(setup, 0.25, 0.75, 0.5)
    assert event(setup, JOB) == {"number": 7, "epoch": 3, "val/accuracy": 0.5}
    with (trial_directory(setup, JOB) / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "val/acc')  # a writer that is still at it
    assert event(setup, JOB)["epoch"] == 3


def test_a_trial_without_an_epoch_has_an_event_that_no_scheduler_promotes(setup: TrialSetup) -> None:
    found = event(setup, JOB)
    assert found.keys() == {"number", "epoch", "val/accuracy"}
    assert found["number"] == 7 and found["epoch"] == 0 and math.isnan(found["val/accuracy"])


def test_the_event_that_ends_a_job_hides_the_metric_of_its_last_epoch(setup: TrialSetup) -> None:
    trained(setup, 0.75)
    failed, stopped = failure(setup, JOB, ValueError("the loss is no longer finite")), interrupted(setup, JOB)
    assert failed.keys() == {"number", "epoch", "val/accuracy", "failure"}
    assert stopped.keys() == {"number", "epoch", "val/accuracy", "interrupted"}
    assert failed["failure"] == "the loss is no longer finite" and stopped["interrupted"] is True
    for found in (failed, stopped):
        assert (found["number"], found["epoch"]) == (7, 1) and math.isnan(found["val/accuracy"])


@pytest.mark.parametrize(("number", "folder"), [(0, "000"), (42, "042"), (1234, "1234")])
def test_a_trial_trains_in_the_folder_of_its_number(setup: TrialSetup, number: int, folder: str) -> None:
    assert trial_directory(setup, JOB | {"number": number}) == setup.directory / "trials" / folder

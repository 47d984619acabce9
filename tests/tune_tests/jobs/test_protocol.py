"""What the jobs of a search report to its driver."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tune.jobs.protocol import FAILURE, INTERRUPTED, TrialSetup, event, failure, interrupted, members, packed_config
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

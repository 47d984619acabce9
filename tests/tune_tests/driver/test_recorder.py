from __future__ import annotations

import json
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tune.driver.recorder import Recorder
from tune.driver.watchdog import Watchdog
from tune.spaces.read import load_space
from tune.study.study import Job, SearchStudy


def write_metrics(directory: Path, values: list[float]) -> None:
    directory.mkdir(parents=True)
    lines = [
        {
            "epoch": epoch,
            "val/accuracy": value,
            "val/accuracy_fixed_decode": value - 0.1,
            "decode/epsilon": 0.2,
            "seconds": 900.0 * epoch,
        }
        for epoch, value in enumerate(values, start=1)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def recorder(directory: Path, study: SearchStudy, earlier: float = 0.0) -> Recorder:
    health = Watchdog(study.space.search, stop=pytest.fail)
    return Recorder(
        study,
        directory,
        data=str(directory),
        home=None,
        earlier_seconds=earlier,
        gate=None,
        health=health,
        say=lambda line: None,
    )


def test_epochs_trained_unheard_are_told_to_the_study_and_not_trained_again(space_file: Path, tmp_path: Path) -> None:
    space, path = load_space(space_file), tmp_path / "study.db"
    died = SearchStudy(path, space)
    assert [job.number for job in (died.next_job(), died.next_job()) if isinstance(job, Job)] == [0, 1]
    write_metrics(tmp_path / "trials" / "000", [0.1, 0.2, 0.5, 0.4])
    write_metrics(tmp_path / "trials" / "001", [0.3])
    study = SearchStudy(path, space)
    writer = recorder(tmp_path, study)
    writer.catch_up()
    default, waiting = study.trials()
    assert default.state == TrialState.COMPLETE and default.value == 0.5
    assert waiting.state == TrialState.RUNNING and waiting.intermediate_values == {1: 0.3}
    shown = writer.save().trials
    assert [(t.id, t.state, t.epochs) for t in shown] == [("000", "COMPLETE", 4), ("001", "PRUNED", 1)]
    job = study.next_job()
    assert isinstance(job, Job) and (job.number, job.until) == (2, 1)


@pytest.mark.parametrize(("limit", "late"), [("hours = 1", True), ("hours = 3", False), ("gpu_hours = 0.9", True)])
def test_time_spent_by_earlier_runs_counts(space_file: Path, tmp_path: Path, limit: str, late: bool) -> None:
    space_file.write_text(
        space_file.read_text().replace("trials = 5", f"{limit}\n[resources]\ngpus = 0.5\nworkers = 2")
    )
    study = SearchStudy(tmp_path / "study.db", load_space(space_file))
    study.next_job()
    write_metrics(tmp_path / "trials" / "000", [0.1, 0.2, 0.5, 0.4])  # an hour
    assert recorder(tmp_path, study, earlier=7200.0).out_of_time() is late

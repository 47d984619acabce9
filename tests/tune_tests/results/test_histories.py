"""The metrics of all trials: from their folders, else from their records; a damaged file is left out and named."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tune_tests.results.summaries import record, summary
from tune.results.histories import read_histories


def write_epochs(folder: Path, *accuracies: float) -> None:
    folder.mkdir(parents=True)
    lines = [json.dumps({"epoch": n, "val/accuracy": value}) for n, value in enumerate(accuracies, start=1)]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_trials_that_ended_that_run_and_whose_folder_is_elsewhere(tmp_path):
    write_epochs(tmp_path / "trials/000", 0.4, 0.5)
    write_epochs(tmp_path / "trials/002", 0.3)  # it runs: the summary does not have it yet
    write_epochs(tmp_path / "trials/1000", 0.2)
    found = read_histories(summary(record(0, 0.5), record(1, 0.7)), tmp_path)
    assert {trial: [m["epoch"] for m in history] for trial, history in found.epochs.items()} == {
        "000": [1, 2],
        "001": [3],
        "002": [1],
        "1000": [1],
    }
    assert not found.damaged


def test_a_damaged_file_is_named_and_its_record_used(tmp_path):
    write_epochs(tmp_path / "trials/001", 0.3)
    (tmp_path / "trials/001/metrics.jsonl").write_text("no json\n")
    last = {"epoch": 4, "val/accuracy": 0.6}
    found = read_histories(summary(record(1, 0.7, last=last)), tmp_path)
    assert [m["val/accuracy"] for m in found.epochs["001"]] == [0.7, 0.6]
    assert len(found.damaged) == 1 and "001/metrics.jsonl: not the metrics of a training" in found.damaged[0]


def test_a_trial_without_an_epoch_has_no_history(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials/notes").write_text("a file of the user's own")
    assert read_histories(summary(record(0, None, state="FAIL")), tmp_path).epochs == {}

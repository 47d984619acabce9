"""The summary of a search, made from its study and the folders of its trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nmt.data.store.ready import ReadyData
from nmt.model.matcher import decoder_parameters
from tune.driver.summarize import Records, objectives, summarize
from tune.driver.trial_folders import TrialFolders
from tune.results.storage import Storage
from tune.results.summary import Summary, TrialRecord
from tune.spaces.read import load_space
from tune.study.study import Job, SearchStudy

VALUES = [0.1, 0.5, 0.2, 0.4]


def train(study: SearchStudy, directory: Path, epochs: int) -> int:
    """Begin the next job and train its trial to `epochs`; return the trial's number. The job stays running."""
    job = study.next_job()
    assert isinstance(job, Job)
    folder = directory / f"trials/{job.number:03d}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for epoch, value in enumerate(VALUES[:epochs], start=1):
            study.report(job.number, epoch, value)
            metrics = {"epoch": epoch, "val/accuracy": value, "seconds": 1.234 * epoch}
            # The fixed decoding is best at another epoch.
            metrics |= {"val/accuracy_fixed_decode": value - (0.3 if epoch == 2 else 0.0), "decode/epsilon": 0.2}
            file.write(json.dumps(metrics) + "\n")
    return job.number


@pytest.fixture
def study(space_file: Path, tmp_path: Path) -> SearchStudy:
    return SearchStudy(tmp_path / "study.db", load_space(space_file))


def summary(study: SearchStudy, directory: Path, *, home: Storage | None = None) -> Summary:
    data = ReadyData("data/tiny", "/data/tiny", Path("/data/tiny"), "", has_test=False)
    return summarize(study, TrialFolders(directory, home), data=data, seconds=12.34, finished=False, records=Records())


def test_trials_count_once_they_have_no_running_job(study: SearchStudy, tmp_path: Path) -> None:
    study.finish(train(study, tmp_path, 4), TrialState.COMPLETE, {})
    paused = train(study, tmp_path, 1)
    assert [(t.id, t.state) for t in summary(study, tmp_path).trials] == [("000", "COMPLETE")]
    assert (summary(study, tmp_path).data, summary(study, tmp_path).has_test) == ("data/tiny", False)
    study.end_job(paused)
    assert [(t.id, t.state) for t in summary(study, tmp_path).trials] == [("000", "COMPLETE"), ("001", "PRUNED")]
    failed = train(study, tmp_path, 0)
    study.finish(failed, TrialState.FAIL, {"reason": "the loss is no longer finite"})
    last = summary(study, tmp_path).trials[-1]
    assert (last.id, last.state, last.reason) == (f"{failed:03d}", "FAIL", "the loss is no longer finite")


def test_an_interrupted_trial_below_its_rung_is_left_out(study: SearchStudy, tmp_path: Path) -> None:
    study.end_job(train(study, tmp_path, 2))  # of four
    assert summary(study, tmp_path).trials == ()


def test_a_record_holds_the_best_and_the_last_epoch(study: SearchStudy, tmp_path: Path) -> None:
    study.finish(train(study, tmp_path, 4), TrialState.COMPLETE, {})
    found = summary(study, tmp_path)
    (trial,) = found.trials
    assert (trial.best["epoch"], trial.accuracy, trial.last["epoch"], trial.epochs) == (2, 0.5, 4, 4)
    assert trial.accuracy_fixed_decode == 0.4 and trial.seconds == 4.94 and trial.reason is None
    assert trial.searched == {"optim.lr": 1e-4, "loss.layer_weighting": "flat"}
    assert trial.configuration["optim"]["lr"] == 1e-4 and trial.objectives == {"val/accuracy": 0.5}
    assert (found.name, found.data, found.seconds, found.epochs, found.finished) == (
        "tiny",
        "data/tiny",
        12.3,
        4,
        False,
    )
    assert set(found.space) == {"optim.lr", "loss.layer_weighting", "decode.epsilon"}


def test_a_record_is_made_again_only_for_a_trial_that_has_had_a_job_since(study: SearchStudy, tmp_path: Path) -> None:
    data, records = ReadyData("data/tiny", "/data/tiny", Path("/data/tiny"), "", has_test=False), Records()

    def again() -> list[TrialRecord]:
        folders = TrialFolders(tmp_path, None)
        found = summarize(study, folders, data=data, seconds=1.0, finished=False, records=records)
        assert found == summarize(study, folders, data=data, seconds=1.0, finished=False, records=Records())
        return list(found.trials)

    study.finish(train(study, tmp_path, 4), TrialState.COMPLETE, {})
    for _ in range(4):
        study.end_job(train(study, tmp_path, 1))
    first, second = again(), again()
    assert [a is b for a, b in zip(first, second, strict=True)] == [True] * 5
    promoted = train(study, tmp_path, 3)  # the promotion of the best
    assert len(again()) == 4
    study.end_job(promoted)
    third = again()
    assert [t.epochs for t in third] == [4, *(3 if n == promoted else 1 for n in range(1, 5))]
    assert [a is b for a, b in zip(first, third, strict=True)] == [True, *(n != promoted for n in range(1, 5))]


def test_a_trial_without_an_epoch_has_an_empty_record(study: SearchStudy, tmp_path: Path) -> None:
    study.finish(train(study, tmp_path, 0), TrialState.FAIL, {"reason": "its process died"})
    (trial,) = summary(study, tmp_path).trials
    assert (trial.best, trial.last, trial.objectives, trial.epochs, trial.seconds) == ({}, {}, {}, 0, 0.0)
    assert trial.accuracy is None and trial.accuracy_fixed_decode is None and trial.checkpoint is None


def test_a_checkpoint_is_named_where_its_weights_are_here_or_at_the_storage(study: SearchStudy, tmp_path: Path) -> None:
    study.finish(train(study, tmp_path, 4), TrialState.COMPLETE, {})
    home = Storage(str(tmp_path.with_name(f"{tmp_path.name}-home")), tmp_path)
    assert summary(study, tmp_path).trials[0].checkpoint is None
    at_storage = summary(study, tmp_path, home=home).trials[0].checkpoint
    (tmp_path / "trials/000/best.pt").touch()
    here = summary(study, tmp_path).trials[0].checkpoint
    assert at_storage == here == "trials/000/best.pt"


def test_objectives_are_in_the_order_of_the_search(space_file: Path, tmp_path: Path) -> None:
    more = 'trials = 5\nscheduler = "fifo"\nsampler = "nsga2"\n'
    more += 'objectives = ["val/accuracy", "inference_seconds", "val/f1", "decoder_parameters"]'
    space_file.write_text(space_file.read_text().replace("trials = 5", more))
    study = SearchStudy(tmp_path / "study.db", load_space(space_file))
    number = train(study, tmp_path, 4)
    best = {"epoch": 2, "val/accuracy": 0.5, "inference_seconds": 0.003, "val/f1": 0.75}
    parameters = decoder_parameters(study.configuration(number).model)
    assert objectives(study, number, best) == [0.5, 0.003, 0.75, float(parameters)] and parameters > 0

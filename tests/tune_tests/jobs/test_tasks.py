"""Independent trainings in real Ray processes: those that end, die, fail, and are stopped early."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions
import torch

from nmt.config import Config, with_overrides
from nmt.errors import TemporaryError, UserError
from nmt.inference.evaluate import MODEL
from nmt.pair_results import load_pair_results
from nmt.training.history import read_metrics
from nmt.training.trainer import DivergedError
from tune.jobs import tasks
from tune.jobs.causes import cause_of
from tune.jobs.tasks import ProcessDiedError, evaluate_on_test, outcomes, train_to_end, train_with_f1
from tune.spaces.read import load_space
from tune.spaces.settings import Resources


@pytest.fixture
def short(space_file: Path) -> Config:
    """The tiny base, with one epoch."""
    return with_overrides(load_space(space_file).base, {"train.epochs": 1}, source="test")


def work_that_dies(times: int, notes: Path, cpus: int) -> str:
    """Kill the own process in the first so many attempts; each leaves a line."""
    with notes.open("a") as file:
        file.write(f"{os.getpid()}\n")
    attempt = len(notes.read_text().splitlines())
    if attempt <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"attempt {attempt} on {cpus} CPU"


def work_that_waits(notes: Path, cpus: int) -> None:
    """Wait to be interrupted, and leave a line then."""
    notes.with_suffix(".begun").touch()
    try:
        for _ in range(1200):
            time.sleep(0.1)
    except KeyboardInterrupt:
        notes.write_text("checkpoint")


def work_that_is_refused(begun: Path, cpus: int) -> None:
    """Fail as soon as another work has begun."""
    deadline = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    raise UserError("the disk is full")


def either(refused: bool, path: Path, cpus: int) -> None:
    (work_that_is_refused if refused else work_that_waits)(path, cpus)


def no_line() -> None:
    """Nothing to print."""


@pytest.mark.slow
def test_a_process_that_dies_is_started_once_more_and_one_that_dies_twice_ends_alone(
    ray_running: None, tmp_path: Path
) -> None:
    jobs = {tmp_path / str(times): (times, tmp_path / str(times)) for times in (0, 1, 2, 3)}
    found = {key.name: outcome for key, outcome in outcomes(work_that_dies, jobs, Resources(), no_line)}
    assert found.pop("0") == "attempt 1 on 1 CPU" and found.pop("1") == "attempt 2 on 1 CPU"
    assert found.keys() == {"2", "3"}
    for name, error in found.items():
        assert isinstance(error, ProcessDiedError) and str(error).startswith("its process died twice")
        processes = (tmp_path / name).read_text().split()
        assert len(processes) == 2 and len(set(processes)) == 2


@pytest.mark.slow
def test_a_caller_that_an_error_stops_interrupts_the_others_which_save(ray_running: None, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    jobs = {tmp_path / "waits": (False, notes), tmp_path / "refused": (True, notes.with_suffix(".begun"))}
    ended = outcomes(either, jobs, Resources(), no_line)
    key, error = next(ended)
    assert key.name == "refused" and isinstance(error, UserError) and str(error) == "the disk is full"
    ended.close()
    assert notes.read_text() == "checkpoint"  # written before the caller continues


class StrangeError(Exception):
    """An error that cannot be pickled."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.lock = threading.Lock()


def work_that_ends(how: str, cpus: int) -> Any:
    if how == "disk":
        raise OSError(28, "No space left on device")
    if how == "strange":
        raise StrangeError("it is odd")
    if how == "exit":
        sys.exit(3)
    if how == "memory":
        raise ray.exceptions.OutOfMemoryError("the host has none left")
    if how == "unreadable":
        return threading.Lock()
    if how == "interrupt":
        raise KeyboardInterrupt
    return how


@pytest.mark.slow
def test_however_a_job_ends_the_others_end_well(ray_running: None, tmp_path: Path) -> None:
    hows = ["disk", "strange", "exit", "memory", "unreadable", "interrupt", "well"]
    found = {
        key.name: outcome
        for key, outcome in outcomes(work_that_ends, {tmp_path / how: (how,) for how in hows}, Resources(), no_line)
    }
    assert found.pop("well") == "well" and len(found) == 6
    told = {how: cause_of(error).reason for how, error in found.items() if isinstance(error, Exception)}
    assert told.keys() == found.keys() and not any("\n" in reason for reason in told.values())
    assert "No space left on device" in told["disk"] and "it is odd" in told["strange"]


def test_a_training_that_runs_out_of_memory_goes_on_with_half_the_pairs(
    tiny_data: Path, tmp_path: Path, short: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nmt.training.loop

    tried: list[int] = []
    real = nmt.training.loop.train

    def train(config: Config, **options: Any) -> Any:
        tried.append(config.train.micro_batch)
        if len(tried) == 1:
            torch_is_full()
        return real(config, **options)

    monkeypatch.setattr(nmt.training.loop, "train", train)
    assert train_to_end(short, str(tiny_data), tmp_path, (), 1) is None
    assert tried == [0, 2] and len(read_metrics(tmp_path)) == 1
    monkeypatch.setattr(nmt.training.loop, "train", lambda config, **options: torch_is_full())
    found = train_to_end(short, str(tiny_data), tmp_path / "again", (), 1)
    assert isinstance(found, TemporaryError) and "out of memory again, with 2 pairs" in str(found)


def torch_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.slow
def test_a_caller_that_stops_early_is_told_of_the_wait_and_interrupts_the_rest(
    ray_running: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LOOK_SECONDS", 0.1)
    notes = tmp_path / "notes"

    def interrupt() -> None:
        if notes.with_suffix(".begun").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(outcomes(work_that_waits, {notes: (notes,)}, Resources(), interrupt))
    assert notes.read_text() == "checkpoint"


def test_a_training_returns_the_error_that_a_retry_would_repeat(tiny_data: Path, tmp_path: Path, short: Config) -> None:
    # A temperature that no float32 can divide by.
    diverging = with_overrides(short, {"loss.temperature": 1e-40}, source="test")
    found = train_to_end(diverging, str(tiny_data), tmp_path / "diverging", (), 1)
    assert isinstance(found, DivergedError) and "no longer finite" in str(found)
    found = train_to_end(short, str(tmp_path / "absent"), tmp_path / "nowhere", (), 1)
    assert isinstance(found, UserError) and "absent" in str(found)


def test_a_training_tries_every_decoding_and_its_test_split_is_read_at_the_best(
    tiny_data: Path, tmp_path: Path, short: Config, space_file: Path
) -> None:
    grid = load_space(space_file).decode_grid()
    assert train_to_end(short, str(tiny_data), tmp_path, grid, 1) is None
    (metrics,) = read_metrics(tmp_path)
    assert metrics["val/accuracy"] >= metrics["val/accuracy_fixed_decode"]
    kept = load_pair_results(tmp_path / "pairs-val.npz")
    assert kept.counts(MODEL).accuracy() == pytest.approx(metrics["val/accuracy"], abs=0.005)
    on_val = json.loads((tmp_path / "val.json").read_text())
    assert on_val["accuracy"] == kept.counts(MODEL).accuracy() and "f1" in on_val["outliers"]["figures"]["union"]
    found: Any = evaluate_on_test(tmp_path / "best.pt", str(tiny_data), 1)
    assert found.keys() == {"accuracy", "per_category", "pairs", "decode", "outliers", "pck"}
    assert found["pck"]["per_point"][MODEL]["0.1"] >= found["accuracy"]
    assert set(found["outliers"]["figures"]["union"]) >= {"precision", "recall", "f1"}
    assert found["decode"]["epsilon"] == metrics["decode/epsilon"] and set(found["per_category"]) == {"cup", "fish"}
    assert 0 <= found["accuracy"] <= 1 and found["pairs"] > 0
    by_pair = load_pair_results(tmp_path / "pairs-test.npz")
    assert by_pair.counts(MODEL).accuracy() == found["accuracy"] and len(by_pair.total_P) == found["pairs"]
    assert "val/f1" not in metrics
    assert train_with_f1(short, str(tiny_data), tmp_path / "f1", grid, 1) is None
    (again,) = read_metrics(tmp_path / "f1")
    assert 0 <= again["val/f1"] <= 1 and again["val/accuracy"] == metrics["val/accuracy"]
    missing = evaluate_on_test(tmp_path / "absent.pt", str(tiny_data), 1)
    assert isinstance(missing, UserError) and "absent.pt" in str(missing)


def test_a_precision_that_no_threshold_has_is_no_failure_of_the_training(
    tiny_data: Path, tmp_path: Path, short: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise UserError("decode.unmatched: no threshold has that precision")

    monkeypatch.setattr("nmt.inference.evaluate.outlier_figures", refuse)
    assert train_to_end(short, str(tiny_data), tmp_path, (), 1) is None
    on_val = json.loads((tmp_path / "val.json").read_text())
    assert on_val["outliers"] is None and on_val["pck"] is not None and (tmp_path / "pairs-val.npz").is_file()

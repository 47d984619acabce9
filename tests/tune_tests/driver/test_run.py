"""A search through the Python API, with few arguments and paths as text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

import nmt
import tune
from nmt.errors import UserError
from nmt.training.history import read_metrics
from tests.paths import ROOT


@pytest.mark.slow
def test_a_search_from_space_to_study_and_best_weights(tiny_data: Path, space_file: Path, tmp_path: Path) -> None:
    results = str(tmp_path / "results")
    space = tune.load_space(str(space_file))
    summary = tune.run_search(space, data=str(tiny_data), results=results, trials=2)
    assert summary.finished and len(summary.trials) == 2
    assert tune.load_summary(f"{results}/tiny") == summary
    study = tune.open_study(f"{results}/tiny")
    assert isinstance(study, optuna.Study) and len(study.trials) == 2
    assert study.best_value == summary.best.accuracy  # type: ignore[union-attr]

    best = tune.best_checkpoint(f"{results}/tiny")
    assert best == Path(results, "tiny/trials", summary.best.id, "best.pt")  # type: ignore[union-attr]
    result = nmt.evaluate(best, data=tiny_data)
    assert 0 <= result.mean["NMT"] <= 1

    with pytest.raises(UserError, match="already holds a search"):
        tune.run_search(space, data=tiny_data, results=results, trials=2)
    assert len(tune.run_search(space, data=tiny_data, results=results, trials=3, resume=True).trials) == 3


@pytest.mark.slow
def test_a_closed_terminal_is_like_an_interruption(tiny_data: Path, space_file: Path, tmp_path: Path) -> None:
    """SIGHUP goes to every process of the terminal, those of a local Ray among them."""
    command = [sys.executable, "run.py", "--search", str(space_file), "--data", str(tiny_data)]
    command += ["--results", str(tmp_path), "--trials", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}

    def epochs() -> int:
        return sum(len(read_metrics(folder)) for folder in tmp_path.glob("tiny/trials/*"))

    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        while epochs() < 1:
            assert running.poll() is None
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGHUP)
        printed = running.stdout.read()
    assert running.returncode in (0, 130), printed  # 0: it was nearly done
    before = epochs()
    resumed = subprocess.run([*command, "--resume"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert epochs() >= before and len(tune.load_summary(str(tmp_path / "tiny")).trials) == 2
    study = tune.open_study(str(tmp_path / "tiny"))
    assert all(trial.state.is_finished() and trial.state.name != "FAIL" for trial in study.trials)

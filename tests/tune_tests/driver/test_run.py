"""A search through the Python API, with few arguments and paths as text."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wsgiref.util
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import nmt
import tune
from nmt.config import load_config
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.inference.sample import pair_names
from nmt.training.history import read_metrics
from nmt.training.loggers.mlflow_log import DEFAULTS
from tests.paths import ROOT


@pytest.mark.slow
def test_a_search_from_space_to_study_and_best_weights(tiny_data: Path, space_file: Path, tmp_path: Path) -> None:
    results = str(tmp_path / "results")
    space = tune.load_space(str(space_file), {"train.loggers": ["tensorboard", "csv", "mlflow"]})
    summary = tune.run_search(space, data=str(tiny_data), results=results, trials=2)
    assert summary.finished and len(summary.trials) == 2
    assert tune.load_summary(f"{results}/tiny") == summary
    study = tune.open_study(f"{results}/tiny")
    assert isinstance(study, optuna.Study) and len(study.trials) == 2
    assert study.best_value == summary.best.accuracy  # type: ignore[union-attr]
    other_tools_read(study)
    every_trial_is_logged(Path(results, "tiny"), ObjectStore.open(tiny_data))

    best = tune.best_checkpoint(f"{results}/tiny")
    assert best == Path(results, "tiny/trials", summary.best.id, "best.pt")  # type: ignore[union-attr]
    result = nmt.evaluate(best, data=tiny_data)
    assert 0 <= result.mean["NMT"] <= 1

    with pytest.raises(UserError, match="already holds a search"):
        tune.run_search(space, data=tiny_data, results=results, trials=2)
    assert len(tune.run_search(space, data=tiny_data, results=results, trials=3, resume=True).trials) == 3


def other_tools_read(study: optuna.Study) -> None:
    """What Optuna's table and its dashboard show of the study."""
    assert study.metric_names == ["val/accuracy"]
    attributes = study.user_attrs
    assert attributes["data_set"]["name"] == "tiny" and attributes["recipe"]["optim"]["lr"] == 1e-4
    assert set(attributes["versions"]) >= {"torch", "optuna", "nmt"} and "--report" in attributes["note"]
    table = study.trials_dataframe()
    assert table["duration"].dt.total_seconds().tolist() == pytest.approx(table["user_attrs_seconds"].tolist())
    assert table["value_val/accuracy"].max() == study.best_value

    dashboard = optuna_dashboard.wsgi(study._storage)

    def get(path: str) -> Any:
        environ: dict[str, Any] = {"PATH_INFO": path}
        wsgiref.util.setup_testing_defaults(environ)
        return json.loads(b"".join(dashboard(environ, lambda *started: None)))

    (listed,) = get("/api/studies")["study_summaries"]
    assert listed["study_name"] == "tiny"
    shown = get(f"/api/studies/{listed['study_id']}")
    assert [trial["state"] for trial in shown["trials"]] == [trial.state.name.capitalize() for trial in study.trials]
    assert all(trial["intermediate_values"] for trial in shown["trials"])
    assert shown["objective_names"] == ["val/accuracy"]


def every_trial_is_logged(directory: Path, store: ObjectStore) -> None:
    """The files of the loggers csv and mlflow, and what TensorBoard reads of the search."""
    os.environ.update({name: value for name, value in DEFAULTS.items() if name not in os.environ})
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=(directory.resolve() / "mlruns").as_uri())
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    pictures = set()
    for trial in sorted(directory.glob("trials/*")):
        history = read_metrics(trial)
        assert len((trial / "metrics.csv").read_text().splitlines()) == 1 + len(history)
        run = runs.pop(f"trials/{trial.name}")
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/accuracy")]
        assert steps == [metrics["epoch"] for metrics in history] and run.data.params["data.name"] == "tiny"
        events = EventAccumulator(str(trial)).Reload()
        assert [event.step for event in events.Scalars("val/accuracy")] == steps
        assert events.Images("val/matches")
        pictures.add(tuple(pair_names(store, load_config(trial / "config.json"), split="val", count=6)))
    assert not runs
    assert len(pictures) == 1 and len(set(pictures.pop())) == 6  # the same pairs in each trial
    text = EventAccumulator(str(directory)).Reload().Tensors("summary")
    assert b"Finished: 2 trials" in text[-1].tensor_proto.string_val[0]


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

"""Real searches: Ray, real trainings of a tiny head on stored features."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import ray

from nmt.config import load_config, with_overrides
from nmt.errors import UserError
from nmt.training.history import read_metrics
from tests.paths import ROOT
from tune.driver import identity as search
from tune.driver.lines import Lines
from tune.driver.search import run_search
from tune.driver.watchdog import Watchdog
from tune.results import lock
from tune.results.log import kept_in, log, to_console
from tune.results.summary import Summary, TrialRecord, load_summary
from tune.spaces.read import load_space
from tune.spaces.space import Space


class Printed(logging.Handler):
    """As caplog, for longer than a test."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def finished(
    ray_running: None, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory, space_text: str
) -> tuple[Path, list[str]]:
    """A finished search: its directory, and the lines it printed."""
    root = tmp_path_factory.mktemp("finished")
    (root / "tiny.toml").write_text(space_text)
    printed = Printed()
    log.addHandler(printed)
    run_search(load_space(root / "tiny.toml"), results=root / "results", data=tiny_data)
    log.removeHandler(printed)
    return root / "results" / "tiny", printed.lines


@pytest.fixture
def search_copy(finished: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A copy of the finished search, to go on with."""
    shutil.copytree(finished[0], tmp_path / "results" / "tiny")
    return tmp_path / "results"


def states(directory: Path) -> dict[int, str]:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    return {t.number: t.state.name for t in study.trials}


def changed(space_file: Path, **replacements: str) -> Space:
    """The tiny search with parts of its text replaced: changed(file, old=new)."""
    text = space_file.read_text()
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    space_file.write_text(text)
    return load_space(space_file)


def test_each_trial_ends_in_one_state_everywhere(finished: tuple[Path, list[str]]) -> None:
    directory, _ = finished
    summary = load_summary(directory)
    assert {int(t.id): t.state for t in summary.trials} == states(directory)
    assert len(summary.trials) == 5 and {t.state for t in summary.trials} <= {"COMPLETE", "PRUNED"}
    for trial in summary.trials:
        assert trial.epochs == len(read_metrics(directory / "trials" / trial.id))
        assert (trial.epochs == 4) == (trial.state == "COMPLETE")
        assert trial.checkpoint is not None and (directory / trial.checkpoint).is_file()


def test_default_configuration_is_trained_in_full_and_compared(finished: tuple[Path, list[str]]) -> None:
    summary = load_summary(finished[0])
    assert summary.default is not None and summary.default.state == "COMPLETE"
    assert summary.default.searched == {"optim.lr": 1e-4, "loss.layer_weighting": "flat"}
    assert summary.gain_points is not None and summary.gain_points > 2


def test_best_json_is_the_winning_configuration(finished: tuple[Path, list[str]]) -> None:
    directory, _ = finished
    best = load_summary(directory).best
    assert best is not None
    config = load_config(directory / "best.json")
    assert config.optim.lr == best.searched["optim.lr"] and config.decode.epsilon == best.best["decode/epsilon"]
    assert best.accuracy == max(t.accuracy or 0 for t in load_summary(directory).trials if t.state == "COMPLETE")


def test_report_is_printed_at_the_end_and_one_line_a_trial_before(finished: tuple[Path, list[str]]) -> None:
    directory, lines = finished
    ends = [line for line in lines if ("COMPLETE" in line or "paused at 1 of 4" in line) and "\n" not in line]
    assert {line.split()[2] for line in ends} == {f"{n:03d}" for n in range(5)}
    assert lines[-1].startswith("Search tiny") and "Next:" in lines[-1]
    kept = (directory / "search.log").read_text()
    assert all(line in kept for line in lines)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  until 5 trials; ", kept)


def test_study_holds_the_value_of_every_epoch(finished: tuple[Path, list[str]]) -> None:
    directory, _ = finished
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    for trial in study.trials:
        history = read_metrics(directory / "trials" / f"{trial.number:03d}")
        assert trial.intermediate_values == {m["epoch"]: m["val/accuracy"] for m in history}
        assert trial.user_attrs["decode.epsilon"] in (0.01, 0.035, 0.2)


def test_search_that_is_there_is_not_touched_without_resume(
    search_copy: Path, space_file: Path, tiny_data: Path
) -> None:
    with pytest.raises(
        UserError, match=r"already holds a search; continue it with --resume, or choose another --results"
    ):
        run_search(load_space(space_file), results=search_copy, data=tiny_data)


def test_resuming_another_search_names_the_difference(search_copy: Path, space_file: Path, tiny_data: Path) -> None:
    space = changed(space_file, **{"high = 1e-1": "high = 1e-2"})
    with pytest.raises(UserError, match=r"holds another search: \[space\] optim.lr is .*0.1.* in it and .*0.01.* now"):
        run_search(space, results=search_copy, data=tiny_data, resume=True)


def test_resumed_search_remembers_its_seed(
    ray_running: None, search_copy: Path, space_file: Path, tiny_data: Path
) -> None:
    definition = search_copy / "tiny" / "search.json"
    definition.write_text(definition.read_text().replace('"seed": 0,\n    "grace', '"seed": 7,\n    "grace'))
    assert search.check_results(load_space(space_file), search_copy / "tiny", resume=True).search.seed == 7
    with pytest.raises(UserError, match=r"\[search\] seed is 7 in it and 8 now"):
        search.check_results(load_space(space_file), search_copy / "tiny", resume=True, seed=8)


def test_directory_of_something_else_is_refused(space_file: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    (tmp_path / "results" / "tiny" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds no search; choose another --results"):
        run_search(load_space(space_file), results=tmp_path / "results", data=tiny_data)


def test_finished_search_resumed_prints_its_report_again(search_copy: Path, space_file: Path, tiny_data: Path) -> None:
    before = (search_copy / "tiny" / "summary.json").read_text()
    kept = (search_copy / "tiny" / "search.log").read_text()
    run_search(load_space(space_file), results=search_copy, data=tiny_data, resume=True)
    assert (search_copy / "tiny" / "search.log").read_text().startswith(kept)
    assert (search_copy / "tiny" / "summary.json").read_text() == before


def test_resume_with_more_trials_keeps_the_finished_ones(
    ray_running: None, search_copy: Path, space_file: Path, tiny_data: Path
) -> None:
    before = load_summary(search_copy / "tiny")
    after = run_search(load_space(space_file), results=search_copy, data=tiny_data, resume=True, trials=7)
    assert after.trials[:5] == before.trials and len(after.trials) == 7
    assert after.seconds > before.seconds
    again = run_search(load_space(space_file), results=search_copy, data=tiny_data, resume=True)
    assert again == after  # the larger budget is remembered


def test_several_objectives_end_in_the_pareto_set_that_optuna_finds(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = 'trials = 7\nscheduler = "fifo"\nsampler = "nsga2"\nobjectives = ["val/accuracy", "val/f1", '
    space = changed(
        space_file,
        **{
            "trials = 5": more + '"decoder_parameters", "inference_seconds"]',
            "[search]": '"model.decoder_layers" = { low = 1, high = 3 }\n[search]',
        },
    )
    found = run_search(space, results=tmp_path, data=tiny_data)
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / 'tiny' / 'study.db'}")
    assert {int(t.id) for t in found.pareto} == {t.number for t in study.best_trials} and found.pareto
    for trial, frozen in zip(found.trials, study.trials, strict=True):
        assert list(trial.objectives.values()) == frozen.values and trial.accuracy == frozen.values[0]
        assert frozen.values[1] == trial.best["val/f1"] > 0 and frozen.values[3] == trial.best["inference_seconds"] > 0
    assert len({(t.searched["model.decoder_layers"], t.objectives["decoder_parameters"]) for t in found.trials}) == len(
        {t.searched["model.decoder_layers"] for t in found.trials}
    )
    assert "Pareto set" in caplog.messages[-1]


@pytest.mark.slow
def test_best_configurations_train_again_with_a_fresh_seed_and_name_the_winner(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = changed(space_file, **{"trials = 5": "trials = 3\nreselect = 2"})
    found = run_search(space, results=tmp_path, data=tiny_data)
    again = [t for t in found.trials if t.seed != space.base.train.seed]
    assert len(found.trials) == 5 and [t.id for t in again] == ["003", "004"]
    assert {t.epochs for t in again} == {space.base.train.epochs} and {t.state for t in again} == {"COMPLETE"}
    assert all(t.configuration["train"]["seed"] == t.seed for t in again)
    assert found.best is not None and found.best in found.reselected[0]
    assert "Named by the mean over seeds" in caplog.messages[-1]
    assert run_search(space, results=tmp_path, data=tiny_data, resume=True) == found


def test_search_out_of_time_ends_with_the_epochs_under_way_and_is_over(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    space = changed(space_file, **{"trials = 5": "hours = 1e-4"})  # over before the first epoch is
    found = run_search(space, results=tmp_path, data=tiny_data)
    assert found.finished and 1 <= len(found.trials) <= 3 and {t.epochs for t in found.trials} <= {0, 1}
    assert set(states(tmp_path / "tiny").values()) == {"PRUNED"}
    more = changed(space_file, **{"hours = 1e-4": "hours = 1.0\npatience = 2"})
    found = run_search(more, results=tmp_path, data=tiny_data, resume=True)
    assert len(found.trials) > 3 and "COMPLETE" in states(tmp_path / "tiny").values()


def test_missing_data_set_names_the_command_and_leaves_nothing(space_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--prepare absent"):
        run_search(load_space(space_file), results=tmp_path / "results", data=tmp_path / "absent")
    assert not (tmp_path / "results").exists()


def test_missing_features_of_a_searched_backbone_are_found_before_the_start(
    space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    space = changed(space_file, **{"[search]": '"model.backbone" = { values = ["tiny", "other"] }\n[search]'})
    with pytest.raises(UserError, match="--features other"):
        run_search(space, results=tmp_path / "results", data=tiny_data)


def test_too_few_resources_are_named_and_leave_nothing(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    space = changed(space_file, **{"[search]": "[resources]\ncpus = 4000\n[search]"})
    with pytest.raises(UserError, match=r"one trial: it takes 1 worker of 4000 CPUs .*and there are .* CPUs, 0 GPUs"):
        run_search(space, results=tmp_path / "results", data=tiny_data)
    assert not (tmp_path / "results").exists()


def test_one_process_at_a_time_may_search_in_a_directory(space_file: Path, tiny_data: Path, tmp_path: Path) -> None:
    with (
        lock.only_one(tmp_path / "tiny"),
        pytest.raises(UserError, match="another process runs a search here"),
        lock.only_one(tmp_path / "tiny"),
    ):
        pass


def test_diverging_trial_fails_with_its_reason_and_the_search_goes_on(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    # A temperature that no float32 can divide by.
    added = '"loss.temperature" = { values = [0.1, 1e-40] }\n[search]\nsampler = "random"'
    space = changed(space_file, **{"[search]": added})
    summary = run_search(space, results=tmp_path, data=tiny_data)
    failed = [t for t in summary.trials if t.state == "FAIL"]
    assert failed and {t.searched["loss.temperature"] for t in failed} == {1e-40}
    assert all("the loss is no longer finite" in (t.reason or "") for t in failed)
    assert {int(t.id): t.state for t in summary.trials} == states(tmp_path / "tiny") and len(summary.trials) == 5
    assert any(t.state == "COMPLETE" for t in summary.trials)


def kill_after(epochs: int, trial: Path, role: str) -> threading.Thread:
    """Kill this process's Ray processes of that role, in the background, when the trial has done so many epochs."""

    def kill() -> None:
        wait_until(lambda: len(read_metrics(trial)) >= epochs)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if f"ray::{role}" in " ".join(process.cmdline()):
                    process.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.02)


def test_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = changed(space_file, **{"epochs = 4, steps_per_epoch = 4": "epochs = 6, steps_per_epoch = 20"})
    killer = kill_after(2, tmp_path / "tiny/trials/000", "ImplicitFunc.train")
    summary = run_search(space, results=tmp_path, data=tiny_data, trials=1)
    killer.join()
    assert any("its process died" in line and "resuming from its checkpoint" in line for line in caplog.messages)
    assert summary.trials[0].state == "COMPLETE" and summary.trials[0].epochs == 6
    assert [m["epoch"] for m in read_metrics(tmp_path / "tiny/trials/000")] == list(range(1, 7))
    assert states(tmp_path / "tiny") == {0: "COMPLETE"}


def start(space_file: Path, data: Path, results: Path, *, resume: bool) -> subprocess.Popen[str]:
    """The search as a process of its own."""
    script = (
        "import sys; from pathlib import Path; from tune.spaces.read import load_space\n"
        "from tune.driver.search import run_search\n"
        "space, data, results, resume = sys.argv[1:]\n"
        "run_search(load_space(space), data=Path(data), results=Path(results), resume=resume == 'True')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(space_file), str(data), str(results), str(resume)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def outcome(summary: Summary) -> dict[str, tuple[Any, ...]]:
    return {t.id: (t.state, t.epochs, t.searched, t.accuracy) for t in summary.trials}


def test_what_a_search_prints_with_pickles_also_after_ray_has_replaced_print(
    monkeypatch: pytest.MonkeyPatch, space_file: Path, tmp_path: Path
) -> None:
    """As it does in a driver where a worker has logged; Ray Tune pickles its callbacks."""
    monkeypatch.setattr(builtins, "print", lambda *lines: None)
    to_console()
    with kept_in(tmp_path):
        for held in (Lines(4, earlier_seconds=0.0), Watchdog(load_space(space_file).search, stop=log.info), log):
            ray.cloudpickle.loads(ray.cloudpickle.dumps(held))


def test_finished_study_opens_in_optunas_own_tools(finished: tuple[Path, list[str]]) -> None:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{finished[0] / 'study.db'}")
    table = study.trials_dataframe()
    assert list(table["number"]) == list(range(5)) and set(table["state"]) <= {"COMPLETE", "PRUNED"}
    assert {"params_optim.lr", "params_loss.layer_weighting", "user_attrs_decode.epsilon"} <= set(table.columns)
    assert study.best_trial.value == max(
        t.accuracy or 0 for t in load_summary(finished[0]).trials if t.state == "COMPLETE"
    )
    importances = optuna.importance.get_param_importances(study)
    assert importances.keys() == {"optim.lr", "loss.layer_weighting"} and sum(importances.values()) == pytest.approx(1)


def measured(directory: Path) -> list[dict[str, Any]]:
    """The metrics of a training without what the clock says."""
    clock = ("seconds", "train/pairs_per_second", "inference_seconds")
    return [{k: v for k, v in epoch.items() if k not in clock} for epoch in read_metrics(directory)]


def test_trial_is_reproduced_from_its_configuration_alone(
    finished: tuple[Path, list[str]], tiny_data: Path, tmp_path: Path
) -> None:
    best = load_summary(finished[0]).best
    assert best is not None
    trial = finished[0] / "trials" / best.id
    command = [sys.executable, "run.py", "--train", str(trial / "config.json"), "--data", str(tiny_data)]
    subprocess.run([*command, "--results", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    again = measured(tmp_path / f"tiny-{best.id}")
    assert len(again) == 4 and again == measured(trial)


@pytest.mark.long
def test_same_seed_one_trial_at_a_time_is_the_same_search(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    alone = f"[resources]\ncpus = {int(ray.cluster_resources()['CPU'])}\n[search]"
    space = changed(space_file, **{"[search]": alone, "trials = 5": "trials = 8"})
    found = [run_search(space, results=tmp_path / name, data=tiny_data) for name in ("one", "two")]
    assert outcome(found[0]) == outcome(found[1])
    one, two = (
        optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / name / 'tiny' / 'study.db'}").trials
        for name in ("one", "two")
    )
    assert [(t.params, t.values, t.state, t.intermediate_values) for t in one] == [
        (t.params, t.values, t.state, t.intermediate_values) for t in two
    ]
    for trial in found[0].trials:
        folders = [tmp_path / name / "tiny" / "trials" / trial.id for name in ("one", "two")]
        assert measured(folders[0]) == measured(folders[1]) != []


@pytest.mark.long
@pytest.mark.parametrize("scheduler", ["asha_stop", "ray_asha", "ray_median", "hyperband"])
def test_every_scheduler_ends_each_trial_in_one_state_and_trains_the_default_in_full(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, scheduler: str
) -> None:
    space = changed(space_file, **{"trials = 5": f'trials = 7\nscheduler = "{scheduler}"'})
    found = run_search(space, results=tmp_path, data=tiny_data)
    assert {int(t.id): t.state for t in found.trials} == states(tmp_path / "tiny")
    assert found.trials[0].state == "COMPLETE" and len(found.trials) == 7
    assert all(t.epochs == 4 if t.state == "COMPLETE" else t.epochs < 4 for t in found.trials)
    ended = {t.state for t in found.trials}
    assert ended == {"COMPLETE", "PRUNED"} or (scheduler == "ray_median" and ended == {"COMPLETE"})


@pytest.mark.parametrize(
    ("cpus", "settings"),
    [
        # Two at once finish in any order, so only what no decision rests on is the same in every run.
        pytest.param(1, 'trials = 6\nsampler = "random"\nscheduler = "fifo"', id="two at once", marks=pytest.mark.long),
        pytest.param(None, 'trials = 8\nsampler = "tpe"\nscheduler = "asha"', id="one, asha", marks=pytest.mark.slow),
    ],
)
def test_search_killed_and_interrupted_ends_as_if_it_never_was(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, cpus: int | None, settings: str
) -> None:
    cpus = cpus or int(ray.cluster_resources()["CPU"])  # all: one trial at a time
    text = space_file.read_text().replace("trials = 5", settings)
    text = text.replace("[search]", f"[resources]\ncpus = {cpus}\n[search]")
    space_file.write_text(text.replace("steps_per_epoch = 4", "steps_per_epoch = 40"))
    whole = run_search(load_space(space_file), results=tmp_path / "whole", data=tiny_data)

    parts, directory = tmp_path / "parts", tmp_path / "parts" / "tiny"
    killed = start(space_file, tiny_data, parts, resume=False)
    wait_until(lambda: (directory / "summary.json").is_file() and trained(directory) > 5)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    at_kill = trained(directory)
    assert {"RUNNING", "WAITING"} & set(states(directory).values()) and at_kill < trained(tmp_path / "whole" / "tiny")

    interrupted = start(space_file, tiny_data, parts, resume=True)
    wait_until(lambda: trained(directory) > at_kill + 2)
    os.kill(interrupted.pid, signal.SIGINT)
    assert interrupted.wait(timeout=60) != 0 and "KeyboardInterrupt" in interrupted.communicate()[0]

    resumed = run_search(load_space(space_file), results=parts, data=tiny_data, resume=True)
    assert outcome(resumed) == outcome(whole) and resumed.best.id == whole.best.id  # type: ignore[union-attr]
    assert trained(directory) == trained(tmp_path / "whole" / "tiny")  # no epoch twice
    assert states(directory) == states(tmp_path / "whole" / "tiny") and not {"RUNNING", "WAITING"} & set(
        states(directory).values()
    )


def trained(directory: Path) -> int:
    """Epochs of all trials together."""
    return sum(len(read_metrics(path.parent)) for path in directory.glob("trials/*/metrics.jsonl"))


@pytest.fixture
def two_workers(space_file: Path) -> Space:
    """The tiny search with trials of two workers."""
    return changed(space_file, **{"[search]": "[resources]\nworkers = 2\n[search]"})


@pytest.mark.long
def test_trials_of_two_workers_train_as_alone_and_are_stopped_as_alone(
    ray_running: None, finished: tuple[Path, list[str]], two_workers: Space, tiny_data: Path, tmp_path: Path
) -> None:
    together = run_search(two_workers, results=tmp_path, data=tiny_data, trials=4)
    # One trial of two workers at a time, two of one: the sampler may know more or less, so only some are the same.
    alone = {json.dumps(t.searched): t for t in load_summary(finished[0]).trials}
    same = [(alone[json.dumps(t.searched)], t) for t in together.trials if json.dumps(t.searched) in alone]
    assert len(same) >= 2 and "PRUNED" in {t.state for t in together.trials} and len(together.trials) == 4
    for one, two in same:
        epochs = min(one.epochs, two.epochs)
        assert [loss(finished[0], one, e) for e in range(epochs)] == pytest.approx(
            [loss(tmp_path / "tiny", two, e) for e in range(epochs)], abs=1e-5
        )


def loss(directory: Path, trial: TrialRecord, epoch: int) -> float:
    return float(read_metrics(directory / "trials" / trial.id)[epoch]["train/loss"])


@pytest.mark.long
@pytest.mark.parametrize("role", ["RayTrainWorker", "ResourceTrainable"])
def test_trial_of_two_workers_survives_the_loss_of_a_process(
    ray_running: None, two_workers: Space, tiny_data: Path, tmp_path: Path, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    killer = kill_after(2, tmp_path / "tiny/trials/000", role)
    summary = run_search(two_workers, results=tmp_path, data=tiny_data, trials=1)
    killer.join()
    assert any("resuming from its checkpoint" in line for line in caplog.messages)
    assert [(t.state, t.epochs) for t in summary.trials] == [("COMPLETE", 4)]


@pytest.mark.long
def test_diverging_trial_of_two_workers_fails_without_a_retry(
    ray_running: None, two_workers: Space, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diverging = with_overrides(two_workers.base, {"loss.temperature": 1e-40}, source="test")
    space = dataclasses.replace(two_workers, base=diverging)
    summary = run_search(space, results=tmp_path, data=tiny_data, trials=1)
    assert [t.state for t in summary.trials] == ["FAIL"] and "no longer finite" in (summary.trials[0].reason or "")
    assert not any("resuming from its checkpoint" in line for line in caplog.messages)

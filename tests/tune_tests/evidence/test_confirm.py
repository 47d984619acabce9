"""What a confirmation concludes from numbers, and real small ones: Ray, trainings of a tiny head."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import run
from nmt.config import load_config, to_dict, with_overrides
from nmt.errors import UserError
from nmt.io.files import write_json
from nmt.training.history import read_metrics
from tests.paths import ROOT
from tests.tune_tests.evidence.confirmations import DEFAULT, DIRECTORY, GOOD, confirmed, repeated, write_search
from tune.evidence.confirm import best_trials, run_confirm, unseen_seeds, with_test
from tune.evidence.confirmed import Confirmed, load_confirmed, render
from tune.evidence.repeated import Repetition
from tune.spaces.read import load_space
from tune.spaces.settings import Resources


def test_a_winner_without_a_test_split_is_told_so(tmp_path: Path) -> None:
    found = replace(confirmed(DEFAULT, repeated("001", [0.70, 0.71, 0.72])), has_test=False)
    unread = Repetition(directory=tmp_path, data="absent", decode_grid=(), resources=Resources())
    assert with_test(found, unread) is found  # reading it would raise after all the trainings
    text = render(found, DIRECTORY)
    assert "Winner: 001" in text and "The data set has no test split, so nothing is known about unseen data." in text
    assert "no test split" not in render(confirmed(DEFAULT, repeated("001", [0.60, 0.61, 0.62])), DIRECTORY)


def test_seeds_leave_out_the_one_of_the_search() -> None:
    assert unseen_seeds(0, 3, None) == (1, 2, 3)
    assert unseen_seeds(5, 3, None) == (6, 7, 8)
    assert unseen_seeds(5, 3, 4) == (4, 6, 7)


def test_candidates_are_the_best_different_trials_stopped_ones_included(search: Path) -> None:
    from tune.results.summary import load_summary

    summary = load_summary(search)
    assert [t.id for t in best_trials(summary, search, 5)] == ["001", "004"]
    assert [t.id for t in best_trials(summary, search, 1)] == ["001"]
    with pytest.raises(UserError, match="only the default configuration has a result"):
        best_trials(replace(summary, trials=summary.trials[:1]), search, 3)


@pytest.fixture
def refused(search: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a refused --confirm; nothing is left behind."""

    def ask(*arguments: str) -> str:
        assert run.main(["--confirm", *arguments, "--results", str(search.parent)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("run.py: ") and error.count("\n") == 1, error
        assert not (search / "confirm").exists()
        return error

    return ask


def test_wrong_requests_are_one_line(refused: Callable[..., str], search: Path) -> None:
    assert "did you mean 'tiny'?" in refused("tinny")
    few = "--seeds must be at least 3, for fewer trainings do not show how much chance moves them, but got 2"
    assert few in refused("tiny", "--seeds", "2")
    assert "--top must be at least 1" in refused("tiny", "--top", "0")
    assert "optim.lr cannot be set in a confirmation: it was searched" in refused("tiny", "--set", "optim.lr=1")
    assert "train.seed cannot be set" in refused("tiny", "--set", "train.seed=1")
    assert "--prepare absent" in refused("tiny", "--data", "absent")


def test_search_without_a_complete_trial_is_refused(
    refused: Callable[..., str], search: Path, space_text: str, tiny_data: Path
) -> None:
    shutil.rmtree(search)
    write_search(search, space_text, tiny_data, [({}, "FAIL", 0.4), (GOOD, "PRUNED", 0.5)])
    line = refused("tiny")
    assert "no trial has completed its epochs" in line and "--search tiny --resume" in line


def test_trials_of_several_workers_are_refused(refused: Callable[..., str], search: Path) -> None:
    toml = search / "search.toml"
    toml.write_text(toml.read_text() + "\n[resources]\nworkers = 2\n")
    line = refused("tiny")
    assert "tiny/search.toml: [resources] workers = 2" in line and "set workers = 1 there" in line


def test_a_damaged_file_of_looks_is_not_overwritten(search: Path, tiny_data: Path, tmp_path: Path) -> None:
    path = search / "confirm" / "confirm.json"
    write_json(path, {"looks": []})
    with pytest.raises(
        UserError, match=r"confirm\.json: not the file of a confirmation .*; it counts the looks"
    ) as error:
        run_confirm(search, data=tiny_data, top=1)
    assert "\n" not in str(error.value) and f"move {path.parent} away" in str(error.value)
    assert json.loads(path.read_text()) == {"looks": []} and not (path.parent / "runs").exists()


def test_results_of_another_configuration_are_not_mixed_in(search: Path, tmp_path: Path, tiny_data: Path) -> None:
    earlier = search / "confirm" / "runs" / "000-s1"
    earlier.mkdir(parents=True)
    other = with_overrides(load_space(search / "search.toml").base, {"train.epochs": 9}, source="test")
    write_json(earlier / "config.json", to_dict(with_overrides(other, {"train.seed": 1}, source="test")))
    with pytest.raises(UserError, match=r"000-s1 holds another training \(train.epochs is 9 in it and 4 now\)"):
        run_confirm(search, data=tiny_data, top=1, seeds=3)


def start(search: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    """--confirm as a process of its own."""
    command = [sys.executable, "-u", str(ROOT / "run.py"), "--confirm", "tiny", "--results", str(search.parent)]
    return subprocess.Popen(
        [*command, "--data", str(data), "--top", "1", "--seeds", "3", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.02)


def accuracies(found: Confirmed) -> dict[str, list[Any]]:
    return {c.name: [(r.accuracy, r.epoch, r.decode) for r in c.runs] for c in (found.default, *found.candidates)}


@pytest.mark.long
def test_confirmation_finds_the_winner_goes_on_after_a_kill_and_reads_the_test_split_once(
    search: Path, tmp_path: Path, tiny_data: Path
) -> None:
    longer = ("--set", "train.steps_per_epoch=40")
    whole = start(search, tiny_data, "--json", *longer)
    out, error = whole.communicate(timeout=200)
    assert whole.returncode == 0, error
    assert "reading the test split for 001 and the default" in out and "Winner: 001" in out
    undisturbed = load_confirmed(search / "confirm" / "confirm.json")
    assert json.loads(out.splitlines()[-1]) == json.loads((search / "confirm" / "confirm.json").read_text())
    assert undisturbed.seeds == (1, 2, 3) and undisturbed.winner is not None
    assert undisturbed.test_difference is not None and undisturbed.test_difference.low > 0
    for number in (1, 2, 3):
        config = load_config(search / "confirm" / "runs" / f"001-s{number}" / "config.json")
        assert config.optim.lr == GOOD["optim.lr"] and config.train.seed == number

    moved = search.parent / "whole"
    (search / "confirm").rename(moved)
    runs = search / "confirm" / "runs"
    killed = start(search, tiny_data, *longer)
    wait_until(lambda: any(len(read_metrics(p)) == 4 for p in runs.glob("*")))
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()

    interrupted = start(search, tiny_data, *longer)
    assert interrupted.stdout is not None
    assert any("% at epoch" in line for line in interrupted.stdout)  # up to the first training that ended
    ended = [p for p in runs.glob("*") if len(read_metrics(p)) == 4]
    stamps = {p: (p / "metrics.jsonl").stat().st_mtime_ns for p in ended}
    os.kill(interrupted.pid, signal.SIGTERM)  # as Ctrl-C
    out, error = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130 and "Interrupted. The same command continues." in error
    assert not (search / "confirm" / "confirm.json").exists()

    resumed = run_confirm(search, data=tiny_data, top=1, seeds=3, overrides={"train.steps_per_epoch": 40})
    assert accuracies(resumed) == accuracies(undisturbed)
    assert {p: (p / "metrics.jsonl").stat().st_mtime_ns for p in ended} == stamps

    read = [(p, p.stat().st_mtime_ns) for p in sorted(runs.glob("*/test.json"))]
    assert len(read) == 6
    run_confirm(search, data=tiny_data, top=1, seeds=3, overrides={"train.steps_per_epoch": 40})
    assert [(p, p.stat().st_mtime_ns) for p in sorted(runs.glob("*/test.json"))] == read


@pytest.mark.long
def test_nobody_wins_by_chance_and_the_test_split_stays_unread(
    search: Path, tiny_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    summary = json.loads((search / "summary.json").read_text())
    # A candidate that differs in what does not act: the layer loss is off.
    for trial in summary["trials"][1:3]:
        trial["searched"] = {"optim.lr": 1e-5, "model.d_model": 4, "loss.layer_weighting": "linear"}
        trial["configuration"]["optim"]["lr"] = 1e-5
        trial["configuration"]["model"]["d_model"] = 4
        trial["configuration"]["loss"]["layer_weighting"] = "linear"
    (search / "summary.json").write_text(json.dumps(summary))
    off = {"loss.layer": 0, "train.epochs": 1}
    found = run_confirm(search, data=tiny_data, top=1, seeds=3, overrides=off)
    difference = found.differences["001"]
    assert difference.mean == 0 and difference.low <= 0 <= difference.high and not difference.separated
    assert found.winner is None and "No winner" in caplog.messages[-1]
    assert not list(search.rglob("test.json"))
    again = run_confirm(search, data=tiny_data, top=1, seeds=3, overrides=off)
    assert again.look == 1 and again.looks == found.looks, "the same results are the same look"
    more = run_confirm(search, data=tiny_data, top=1, seeds=4, overrides=off)
    assert (more.look, len(more.looks)) == (2, 2) and "97.5 % (look 2 at results" in caplog.messages[-1]
    assert found.val_keypoints > 0

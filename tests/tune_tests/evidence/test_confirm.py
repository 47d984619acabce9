"""What a confirmation concludes from numbers, and real small ones: Ray, trainings of a tiny head."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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
from tune.evidence.confirm import Confirmed, best_trials, load_confirmed, render, run_confirm, unseen_seeds, with_test
from tune.evidence.repeated import Repeated, Repetition, Run
from tune.results.summary import Summary, TrialRecord
from tune.spaces.read import load_space
from tune.spaces.settings import Resources


def repeated(name: str, accuracies: Sequence[float | None], test: Sequence[float] | None = None) -> Repeated:
    """The trainings of one configuration with seeds 1, 2, ..; None is a failed one."""

    def run_of(seed: int, accuracy: float | None) -> Run:
        return Run(
            seed=seed,
            directory=f"runs/{name}-s{seed}",
            accuracy=accuracy,
            accuracy_fixed_decode=accuracy,
            epoch=4,
            epochs=4,
            seconds=1.0,
            decode={"epsilon": 0.035},
            reason="the loss is no longer finite" if accuracy is None else None,
            test_accuracy=test[seed - 1] if test else None,
        )

    return Repeated(name=name, runs=tuple(run_of(seed, value) for seed, value in enumerate(accuracies, start=1)))


def confirmed(default: Repeated, *candidates: Repeated) -> Confirmed:
    names = [c.name for c in (default, *candidates)]
    return Confirmed(
        search="toy",
        data="data/toy",
        search_seed=0,
        seeds=tuple(r.seed for r in default.runs),
        epochs=4,
        searched={name: {"optim.lr": 1e-3} for name in names},
        search_accuracy=dict.fromkeys(names, 0.7),
        swept=True,
        default=default,
        candidates=candidates,
    )


DEFAULT = repeated("000", [0.60, 0.61, 0.62])
DIRECTORY = Path("results/toy/confirm")


def test_no_winner_where_the_interval_includes_zero() -> None:
    # +5, -1 and +5 points: a mean of 3 within an interval of about -5.6 to 11.6.
    found = confirmed(DEFAULT, repeated("007", [0.65, 0.60, 0.67]))
    assert found.winner is None and found.to_dict()["winner"] is None
    text = render(found, DIRECTORY)
    assert "No winner: the best on average, 007, is +3.0 [-5.6, +11.6] points from the default" in text
    assert "an interval that includes 0" in text and "The test split was not read" in text
    assert "Winner" not in text and "--confirm toy --top 1 --seeds 6" in text


def test_winner_is_the_best_of_those_the_interval_separates() -> None:
    wild, good, better = [0.5, 0.9, 0.9], [0.65, 0.66, 0.67], [0.70, 0.71, 0.721]
    found = confirmed(DEFAULT, repeated("001", good), repeated("002", wild), repeated("003", better))
    assert found.best is not None and found.best.name == "002"  # on average alone
    assert found.winner is not None and found.winner.name == "003"
    assert "Winner: 003" in render(found, DIRECTORY) and "cannot be told apart from 002" in render(found, DIRECTORY)


def test_nothing_below_the_default_wins() -> None:
    found = confirmed(DEFAULT, repeated("001", [0.5, 0.51, 0.52]))
    assert found.winner is None
    assert "is -10.0 [-10.0, -10.0] points from the default, below it" in render(found, DIRECTORY)


def test_configuration_with_a_failed_training_cannot_win() -> None:
    found = confirmed(DEFAULT, repeated("001", [0.70, 0.71, None]))
    text = render(found, DIRECTORY)
    assert found.winner is None and "no configuration finished all its trainings" in text
    assert "001, seed 3 failed: the loss is no longer finite" in text


def test_test_split_is_judged_by_its_own_interval() -> None:
    default = repeated("000", [0.60, 0.61, 0.62], test=[0.50, 0.52, 0.51])
    better = [0.70, 0.71, 0.72]
    holds = confirmed(default, repeated("001", better, test=[0.60, 0.615, 0.61]))
    assert "the gain holds on unseen data" in render(holds, DIRECTORY)
    unproven = confirmed(default, repeated("001", better, test=[0.60, 0.50, 0.51]))
    assert "the gain is not proven" in render(unproven, DIRECTORY)
    worse = confirmed(default, repeated("001", better, test=[0.40, 0.42, 0.411]))
    assert "on unseen data it is worse" in render(worse, DIRECTORY)


def test_a_winner_without_a_test_split_is_told_so(tmp_path: Path) -> None:
    found = replace(confirmed(DEFAULT, repeated("001", [0.70, 0.71, 0.72])), has_test=False)
    unread = Repetition(directory=tmp_path, data="absent", decode_grid=(), resources=Resources())
    assert with_test(found, unread) is found  # reading it would raise after all the trainings
    text = render(found, DIRECTORY)
    assert "Winner: 001" in text and "The data set has no test split, so nothing is known about unseen data." in text
    assert "no test split" not in render(confirmed(DEFAULT, repeated("001", [0.60, 0.61, 0.62])), DIRECTORY)


def test_confirmation_returns_from_its_file_as_it_was(tmp_path: Path) -> None:
    found = confirmed(DEFAULT, repeated("001", [0.70, 0.71, 0.72], test=[0.6, 0.6, 0.6]))
    write_json(tmp_path / "confirm.json", found.to_dict())
    assert load_confirmed(tmp_path / "confirm.json") == found
    (tmp_path / "confirm.json").write_text("{}")
    with pytest.raises(UserError, match="not the file of a confirmation"):
        load_confirmed(tmp_path / "confirm.json")


def test_seeds_leave_out_the_one_of_the_search() -> None:
    assert unseen_seeds(0, 3, None) == (1, 2, 3)
    assert unseen_seeds(5, 3, None) == (6, 7, 8)
    assert unseen_seeds(5, 3, 4) == (4, 6, 7)


def write_search(
    directory: Path, space_text: str, data: Path, trials: Sequence[tuple[dict[str, Any], str, float]]
) -> Summary:
    """results/tiny as a search leaves it that tried these values, ended so, at this accuracy."""
    directory.mkdir(parents=True)
    (directory / "search.toml").write_text(space_text)
    space = load_space(directory / "search.toml")
    write_json(directory / "search.json", space.to_dict())
    records = []
    for number, (searched, state, accuracy) in enumerate(trials):
        config = with_overrides(space.base, searched, source="test")
        metrics = {"epoch": 4, "val/accuracy": accuracy, "decode/epsilon": 0.035}
        records.append(
            TrialRecord(
                id=f"{number:03d}",
                state=state,
                searched=space.default_params | searched,
                configuration=to_dict(config),
                best=metrics,
                last=metrics,
                accuracy_fixed_decode=accuracy,
                epochs=4,
                seconds=1.0,
                seed=0,
                checkpoint=None,
                reason=None,
            )
        )
    plain = space.to_dict()
    summary = Summary(
        name="tiny", description="", data=str(data), space={}, search=plain["search"], resources=plain["resources"],
        epochs=4, seconds=1.0, trials=tuple(records),
    )  # fmt: skip
    summary.save(directory)
    return summary


GOOD, POOR = {"optim.lr": 3e-3, "model.d_model": 16}, {"optim.lr": 1e-1}


@pytest.fixture
def search(tmp_path: Path, space_text: str, tiny_data: Path) -> Path:
    """A search with a poor default, tried twice, that found much better values."""
    directory = tmp_path / "results" / "tiny"
    text = space_text.replace("lr = 1e-4", "lr = 1e-5").replace("d_model = 16", "d_model = 4")
    text = text.replace("[space]", '[space]\n"model.d_model" = { values = [4, 16] }')
    trials = [
        ({}, "COMPLETE", 0.4),
        (GOOD, "COMPLETE", 0.7),
        (GOOD, "COMPLETE", 0.7),
        ({}, "COMPLETE", 0.6),
        (POOR, "PRUNED", 0.3),
    ]
    write_search(directory, text, tiny_data, trials)
    return directory


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
    assert "--seeds must be at least 2, for an interval needs two trainings, but got 1" in refused(
        "tiny", "--seeds", "1"
    )
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


def test_results_of_another_configuration_are_not_mixed_in(search: Path, tmp_path: Path, tiny_data: Path) -> None:
    earlier = search / "confirm" / "runs" / "000-s1"
    earlier.mkdir(parents=True)
    other = with_overrides(load_space(search / "search.toml").base, {"train.epochs": 9}, source="test")
    write_json(earlier / "config.json", to_dict(with_overrides(other, {"train.seed": 1}, source="test")))
    with pytest.raises(UserError, match=r"000-s1 holds another training \(train.epochs is 9 in it and 4 now\)"):
        run_confirm(search, data=tiny_data, top=1, seeds=2)


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
    found = run_confirm(search, data=tiny_data, top=1, seeds=2, overrides=off)
    difference = found.candidates[0].above(found.default)
    assert difference is not None and (difference.low, difference.high) == (0, 0)
    assert found.winner is None and "No winner" in caplog.messages[-1]
    assert not list(search.rglob("test.json"))

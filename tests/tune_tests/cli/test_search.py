"""Searches and ablations from the command line: the flags of each kind, and the dry run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tune_tests.cli.small_data import SMALL, write_willow
from tune.cli.main import main

SEARCH = (
    '[base]\ndata = { name = "willow", mode = "features" }\nmodel = { heads = 2 }\n'
    '[space]\n"optim.lr" = { low = 1e-4, high = 1e-2 }\n'
)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--trials 3", "--trials: willow_ablation is an ablation: it trains its [variants], each with --seeds N seeds"),
        ("--storage s3://bucket/x", "--storage: willow_ablation is an ablation, which keeps its results in --results"),
        ("--dry-run", "--dry-run: willow_ablation is an ablation, which has no dry run"),
        ("--workers 2", "--workers: willow_ablation is an ablation, whose trainings have one worker each"),
        ("--seeds 1", "--seeds: seeds must be an integer at least 2, but got 1"),
    ],
)
def test_an_ablation_refuses_the_flags_of_a_search(refused, flags, message):
    assert message in refused("--search", "willow_ablation", *flags.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seeds 3", "--seeds: voc is a search, which trains each trial once; --confirm repeats its best"),
        ("--dry-run --resume", "--resume: --dry-run starts nothing"),
        ("--card l4", "--card: only --dry-run compares with a card"),
        ("--dry-run --card rtx409", "--card rtx409: not a known card; did you mean 'rtx4090'?"),
    ],
)
def test_a_search_refuses_flags_that_it_would_ignore(refused, flags, message):
    assert message in refused("--search", "voc", *flags.split())


def test_results_that_are_there_are_named_before_the_data_set_is_made(refused, tmp_path):
    (tmp_path / "results" / "demo").mkdir(parents=True)
    (tmp_path / "results" / "demo" / "search.json").write_text("{}")
    assert "results/demo already holds a search" in refused("--search", "demo")
    assert not (tmp_path / "data").exists()


def test_a_recipe_without_a_space_is_refused(refused):
    Path("plain.toml").write_text('[base]\ndata = { name = "willow" }\n')
    assert "nothing to search; train it with --train" in refused("--search", "plain.toml")


def test_a_dry_run_prints_the_plan_and_changes_nothing(capsys, refused, tmp_path):
    write_willow(tmp_path / "raw")
    features = ["--set", "data.mode=features", "--set", "model.backbone=tf_efficientnet_lite0"]
    assert main(["--prepare", "willow", "--raw", "raw", *SMALL, *features]) == 0
    Path("small.toml").write_text(SEARCH)
    dry = ["--search", "small.toml", "--dry-run", "--data", "data/willow", *SMALL, *features]
    before = {(path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert main([*dry, "--trials", "3", "--card", "l4"]) == 0
    out = capsys.readouterr().out
    assert "until 3 trials" in out and " at once" in out and "writable" in out
    assert "memory    a step needs about" in out and "of the 24 GB of L4" in out
    assert "nowhere/objects.arrow: not there" in refused(*dry, "--data", "nowhere")
    assert {(path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")} == before

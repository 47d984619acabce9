"""The commands after a search, from the files of its folder."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nmt.config import Config, to_dict, with_overrides
from nmt.recipes import RECIPES, read_recipe
from tests.tune_tests.results.summaries import record, summary
from tune.results.commands import next_commands, resume_command, tensorboard
from tune.results.layout import DEFINITION
from tune.results.summary import Summary
from tune.spaces.read import load_space


def folder(results: Path, name: str, **definition: Any) -> Path:
    """A folder of results with the definition of a search."""
    directory = results / name
    directory.mkdir(parents=True)
    (directory / DEFINITION).write_text(json.dumps({"name": name} | definition))
    return directory


def search(name: str, data: str) -> Summary:
    return dataclasses.replace(summary(record(0, 0.5)), name=name, data=data)


def words(command: str, program: str = "python run.py ") -> list[str]:
    assert command.startswith(program)
    return shlex.split(command)


def test_commands_carry_the_places_of_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = to_dict(with_overrides(Config(), {"data.name": "toy"}, source=""))
    folder(Path("my results"), "toy", base=base, storage="s3://bucket/runs/toy")
    found = dataclasses.replace(summary(record(0, 0.5), record(1, 0.7)), data="my data/toy", finished=True)
    evaluate, match, train, board = (words(c, "") for c, _ in next_commands(found, Path("my results/toy")))
    data, results, storage = ["--data", "my data/toy"], ["--results", "my results"], ["--storage", "s3://bucket/runs"]
    assert evaluate[2:] == ["--evaluate", "toy", "--split", "test", *data, *results, *storage]
    assert match[2:4] == ["--match", "toy"] and match[-4:] == results + storage and "--data" not in match
    assert train[2:] == ["--train", "my results/toy/best.json", *data, *results], "a new training lives here"
    assert board == ["tensorboard", "--logdir", "my results/toy"]


def test_the_default_data_set_is_that_of_the_configuration_not_of_the_folder(tmp_path: Path) -> None:
    directory = folder(tmp_path, "voc-small", base=to_dict(with_overrides(Config(), {"data.name": "voc"}, source="")))
    assert "--data data/voc-small" in resume_command(search("voc-small", "data/voc-small"), directory)
    assert "--data" not in resume_command(search("voc-small", "data/voc"), directory)


def test_resuming_names_the_file_and_repeats_what_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"optim.lr": 0.02, "loss.matching": "cross_entropy", "optim.milestones": [1, 2], "model.spline": False}
    space = load_space(read_recipe("demo"), changes)
    directory = folder(Path("results"), "demo", base=to_dict(space.base), file=space.file)
    resumed = words(resume_command(search("demo", "data/demo"), directory, "--trials", "9"))
    assert resumed[2:4] == ["--search", "demo"] and resumed[-3:] == ["--resume", "--trials", "9"]
    texts = [text for flag, text in itertools.pairwise(resumed) if flag == "--set"]
    assert sorted(texts) == [
        "loss.matching=cross_entropy",
        "model.spline=false",
        "optim.lr=0.02",
        "optim.milestones=[1, 2]",
    ]
    own = tmp_path / "my spaces/mine.toml"
    own.parent.mkdir()
    own.write_text((RECIPES / "demo.toml").read_text())
    space = load_space(own)
    directory, mine = (
        folder(Path("results"), "mine", base=to_dict(space.base), file=space.file),
        search("mine", "data/mine"),
    )
    assert words(resume_command(mine, directory))[2:5] == ["--search", "my spaces/mine.toml", "--resume"]
    own.unlink()
    assert words(resume_command(mine, directory))[2:5] == ["--search", "my spaces/mine.toml", "--resume"], "as it was"


def test_a_folder_without_a_definition_has_the_commands_that_its_name_gives(tmp_path: Path) -> None:
    (tmp_path / DEFINITION).write_text("[]")
    assert words(resume_command(search("toy", "data/toy"), tmp_path))[3] == "toy"
    assert tensorboard(Path("a b")) == "tensorboard --logdir 'a b'"

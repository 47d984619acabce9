"""The commands after a search, from the files of its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nmt.config import Config, to_dict, with_overrides
from nmt.recipes import RECIPES, read_recipe
from tests.paths import ROOT
from tests.tune_tests.results.summaries import record, summary
from tune.results.commands import next_commands, resume_command, tensorboard
from tune.results.layout import DEFINITION
from tune.results.summary import Summary, load_summary
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


def test_a_file_of_another_machine_is_named_by_the_recipe_here(tmp_path: Path) -> None:
    directory = folder(tmp_path, "demo", file="/home/somebody/nmt/search_spaces/demo.toml")
    assert words(resume_command(search("demo", "data/demo"), directory))[3] == "demo"


def test_a_stage_is_continued_by_the_search_that_it_is_part_of(tmp_path: Path) -> None:
    whole = folder(tmp_path, "toy", fidelity=["features", "images"])
    stage = folder(whole, "features")
    resumed = words(resume_command(search("features", "data/toy"), stage))
    assert resumed[2:5] == ["--search", "toy", "--resume"] and resumed[-2:] == ["--results", str(tmp_path)]
    alone = folder(tmp_path, "images")
    assert words(resume_command(search("images", "data/x"), alone))[3] == "images", "a search of that name"


def test_a_folder_without_a_definition_has_the_commands_that_its_name_gives(tmp_path: Path) -> None:
    (tmp_path / DEFINITION).write_text("[]")
    assert words(resume_command(search("toy", "data/toy"), tmp_path))[3] == "toy"
    assert tensorboard(Path("a b")) == "tensorboard --logdir 'a b'"


@pytest.mark.long
def test_every_printed_command_runs_as_it_is_copied(
    tiny_data: Path, space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search in folders with blanks, its `Next:`, and what those commands print in turn, each run by a shell."""
    (tmp_path / "my data").mkdir()
    shutil.copytree(tiny_data, tmp_path / "my data/tiny")
    (tmp_path / "my spaces").mkdir()
    images = space_file.read_text().replace('mode = "features"', 'mode = "images"')
    images = images.replace('backbone = "tiny"', 'backbone = "tf_efficientnet_lite0"').replace(
        "epochs = 4", "epochs = 2"
    )
    (tmp_path / "my spaces/tiny.toml").write_text(images)
    for name in ("A", "B"):
        Image.new("RGB", (40, 30), (90, 20, 160)).save(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.csv").write_text("name,x,y\nnose,5,5\ntail,30,20\near,12,25\n")

    def run(command: str) -> str:
        ran = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    places = "--results 'my results' --data 'my data/tiny' --set data.eval_pairs=4"
    out = run(f"python {ROOT / 'run.py'} --search 'my spaces/tiny.toml' {places} --trials 2")
    printed = [line.strip().partition("  #")[0] for line in out.partition("Next:")[2].splitlines()]
    commands = [line for line in printed if line and not line.startswith("#")]
    assert [c.split(" --")[1].split()[0] for c in commands] == ["evaluate", "match", "train", "logdir"]
    *jobs, board = commands
    for command in jobs:
        after = run(command).partition("next: ")[2].strip()
        if after:
            run(after)
    assert shutil.which(shlex.split(board)[0]) and Path(tmp_path, shlex.split(board)[2]).is_dir()
    assert (tmp_path / "my results/tiny-best/best.pt").is_file(), "beside the search"
    # What continues a search repeats its --set and finds its file: it would refuse another one.
    directory = Path("my results/tiny")
    monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py")])
    with contextlib.chdir(tmp_path):
        more = resume_command(load_summary(directory), directory, "--trials", "3")
    assert "3 trials" in run(more) and len(load_summary(tmp_path / directory).trials) == 3

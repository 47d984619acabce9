"""--init: a recipe and a search space of one's own, written once and ready to run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nmt import recipes
from nmt.recipes import RECIPES, recipe
from tests.tune_tests.cli.own_data import write_own
from tune.cli.init import steps_for
from tune.cli.main import main
from tune.spaces.read import load_space


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search_spaces/ of the test's own."""
    own = tmp_path / "search_spaces"
    own.mkdir()
    for path in RECIPES.glob("*.toml"):
        if path.name in ("laptop.toml", "voc.toml"):
            shutil.copy(path, own)
    monkeypatch.setattr(recipes, "RECIPES", own)
    return own


def test_the_file_searches_rate_temperature_depth_and_weights_of_the_losses(folder, capsys):
    assert main(["--init", "birds", "--json"]) == 0
    out = capsys.readouterr().out
    assert "wrote search_spaces/birds.toml" in out
    assert "next: python run.py --prepare birds --raw DIR" in out and "--search birds --trials 4" in out
    assert json.loads(out.splitlines()[-1]) == {"file": str(folder / "birds.toml")}
    space = load_space("birds")
    assert {p.key for p in space.parameters} == {
        "optim.lr", "loss.temperature", "loss.hyperspherical", "loss.layer", "model.decoder_layers",
    }  # fmt: skip
    assert space.base.data.name == "birds" and space.base.data.mode == "features"
    assert space.base.train.epochs > max(space.base.optim.milestones) and space.resources.gpus == 0
    assert sum(line.startswith("#") for line in (folder / "birds.toml").read_text().splitlines()) >= 10
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["birds", "voc", "laptop"])
def test_a_file_that_is_there_is_never_changed(folder, refused, name):
    path = folder / f"{name}.toml"
    if name == "birds":
        path.write_text("mine = true")
    before = path.read_bytes()
    assert f"search_spaces/{name}.toml: is there already" in refused("--init", name)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["my birds", "birds.toml", "../birds", "a/b", "ä", "x" * 300])
def test_a_name_that_no_data_set_can_have_is_refused(folder, refused, name):
    before = sorted(folder.iterdir())
    assert "letters, digits, _ and -" in refused("--init", name)
    assert sorted(folder.iterdir()) == before


def test_steps_grow_with_the_training_split_within_bounds():
    base = recipe("laptop")
    steps = [steps_for(objects, base) for objects in (2, 16, 160, 200, 412, 640, 1600, 100_000)]
    assert steps == sorted(steps) and steps[0] == 20 and steps[-1] == 80 and len(set(steps)) >= 4
    assert all(step % 5 == 0 for step in steps)


def test_the_written_file_fits_a_prepared_data_set_and_passes_a_dry_run(folder, capsys, refused):
    write_own(Path("raw"))
    assert main(["--prepare", "birds", "--raw", "raw", "--set", "data.image_size=96"]) == 0
    assert "search_spaces/birds.toml: not there" in refused("--search", "birds")
    capsys.readouterr()
    assert main(["--init", "birds"]) == 0
    out = capsys.readouterr().out
    assert "--prepare" not in out and "next: python run.py --search birds --trials 4" in out
    assert recipe("birds").data.image_size == 96
    assert "Fits the 12 objects of the training split" in (folder / "birds.toml").read_text()
    assert main(["--search", "birds", "--dry-run", "--trials", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["trials"] == 4
    assert main(["--train", "birds", "--set", "train.epochs=1", "--set", "train.steps_per_epoch=2"]) == 0
    assert "training: 1 epoch of 2 steps, 16 pairs each; 12 train and 6 val objects" in capsys.readouterr().out


def test_another_data_folder_is_kept_in_the_next_commands(capsys):
    assert main(["--init", "birds", "--data", "elsewhere"]) == 0
    out = capsys.readouterr().out
    assert "--search birds --trials 4 --data elsewhere" in out and "--train birds --data elsewhere" in out


def test_from_elsewhere_the_file_is_written_below_the_working_directory_and_read_from_there(
    tmp_path, monkeypatch, capsys, refused
):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    shipped = sorted(recipes.RECIPES.iterdir())
    assert main(["--init", "birds"]) == 0
    assert "wrote search_spaces/birds.toml" in capsys.readouterr().out
    assert recipe("birds").data.name == "birds" and sorted(recipes.RECIPES.iterdir()) == shipped
    assert "search_spaces/birds.toml: is there already; edit it, or choose another name" in refused("--init", "birds")
    line = refused("--init", "voc")
    assert f"{recipes.RECIPES}/voc.toml: is there already; it comes with the project, so choose another name" in line

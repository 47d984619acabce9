"""The Python API of nmt: its names, what importing it costs, and a whole script."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nmt
from nmt.data.store.readings import read_readings
from nmt.errors import UserError
from tests.small_model import SMALL

TRAINING = SMALL | {
    "data.name": "toy",
    "data.mode": "features",
    "data.pairs_per_step": 4,
    "data.eval_pairs": 6,
    "optim.lr": 5e-3,
    "optim.milestones": [],
    "train.epochs": 2,
    "train.steps_per_epoch": 3,
}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", nmt.__all__)
def test_every_name_exists_and_is_documented(name):
    assert len(inspect.getdoc(getattr(nmt, name)) or "") > 20
    assert name in dir(nmt)


def test_all_is_sorted_and_lists_every_name_of_the_map_once():
    assert sorted(nmt.__all__) == sorted(name for names in nmt._MODULES.values() for name in names)
    with pytest.raises(AttributeError, match="module 'nmt' has no attribute 'matcher'"):
        _ = nmt.matcher


def test_importing_costs_nothing_and_a_name_only_what_it_needs():
    heavy = "sorted({'torch', 'pyarrow', 'numpy', 'ray', 'PIL', 'nmt.config'} & set(sys.modules))"
    assert python(f"import sys, nmt; print({heavy})") == "[]\n"
    assert python(f"import sys, nmt; nmt.recipe('demo'); print({heavy})") == "['nmt.config']\n"
    assert python(f"import sys; from nmt import Config, UserError, train; print({heavy})") == "['nmt.config']\n"


@pytest.mark.parametrize("package", ["nmt", "tune"])
def test_both_packages_say_that_they_are_typed(package):
    import tomllib

    from tests.paths import ROOT

    assert (ROOT / package / "py.typed").is_file()
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "py.typed" in setuptools["package-data"]["*"]


def write_raw(raw: Path) -> None:
    """A data set of one's own: 24 photographs of a cup with three keypoints."""
    rng, rows = np.random.default_rng(0), ["image,category,keypoint,x,y,split"]
    raw.mkdir()
    for k in range(24):
        split = ("train", "val", "test")[k % 3]
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(raw / f"{k}.png")
        rows += [f"{k}.png,cup,{name},{rng.uniform(2, 60)},{rng.uniform(2, 46)},{split}" for name in ("a", "b", "c")]
    (raw / "keypoints.csv").write_text("\n".join(rows))


def test_a_data_set_of_ones_own_from_photographs_to_matches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_raw(tmp_path / "raw")
    overrides = TRAINING | {"data.name": "cups"}
    prepared = nmt.prepare("cups", raw="raw", overrides=overrides)
    assert prepared.objects.counts["train"] == {"cup": 8}
    assert [path.parent for path in prepared.features] == [Path("data/cups/features")]
    assert str(prepared).endswith(f"features: {prepared.features[0]}")
    config = nmt.with_overrides(nmt.recipe("cups", own=True), overrides, source="test")

    epochs = []
    best = nmt.train(config, on_epoch=lambda result: epochs.append(result.epoch))
    folder = Path("results/cups-train")
    assert epochs == [1, 2] and best.epoch in epochs and (folder / "best.pt").is_file()
    with pytest.raises(UserError, match="results/cups-train: already holds a training; resume it with resume=True"):
        nmt.train(config)
    assert nmt.train(config, resume=True) == best
    again = nmt.train(folder / "config.json", data="data/cups", directory="again")
    assert again.metrics["val/accuracy"] == best.metrics["val/accuracy"]

    changed = {key: value for key, value in overrides.items() if key != "data.image_size"}
    by_name = nmt.train("cups", overrides=changed, directory="by-name")  # at the size of the data set
    assert by_name.metrics["val/accuracy"] == best.metrics["val/accuracy"]
    with pytest.raises(UserError, match="data/cups: holds no stored features of tf_efficientnet_lite0; make them with"):
        nmt.train("cups", directory="default")

    result = nmt.evaluate(str(folder), split="test")
    assert result.split == "test" and result.mean["chance"] == pytest.approx(1 / 3)
    assert [reading.result for reading in read_readings(Path("data/cups"))] == [folder.name]
    points = {"a": (3, 4), "b": (60, 5), "c": (30, 40)}
    matches = nmt.load_matcher(folder).match("raw/0.png", points, "raw/1.png", points)
    assert isinstance(matches, nmt.Matches) and set(matches.names()) == {"a", "b", "c"}
    nmt.export(folder, "params.pt")
    assert "vit_to_node_dim.weight" in torch.load("params.pt", weights_only=True)


def test_a_wrong_request_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="did you mean 'demo'"):
        nmt.train("demoo")
    with pytest.raises(UserError, match="overrides: no configuration key 'optim.lrr'"):
        nmt.train("demo", overrides={"optim.lrr": 1})
    with pytest.raises(UserError, match="split must be one of train, val, test, but got 'dev'"):
        nmt.evaluate("best.pt", split="dev")
    with pytest.raises(UserError, match="'my cups' is no name of a data set: .* letters, digits, _ and -"):
        nmt.prepare("my cups", raw="raw")
    with pytest.raises(UserError, match="no such search space file"):
        nmt.train("absent.toml")

"""The examples of docs/extend.md, each run from a module outside the project."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nmt
import run
import tune
from nmt import extensions
from nmt.config import Config, ModelConfig
from nmt.data.readers.registry import READERS
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.model.backbone import BACKBONES, build_backbone
from nmt.model.matcher import MatchOutput
from tests.paths import ROOT
from tune.spaces.samplers import SAMPLERS
from tune.study.study import SearchStudy

EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/extend.md").read_text(), re.DOTALL | re.MULTILINE)
KINDS = ("reader", "backbone", "loss_term", "sampler", "logger")
MODULES = (*KINDS, "network")
"""the last one registers nothing"""
SMALL = {
    "data.image_size": 64, "data.eval_pairs": 4, "data.pairs_per_step": 2, "model.backbone": "two_convolutions",
    "model.weights": "random", "model.d_model": 16, "model.heads": 4, "model.decoder_layers": 1, "train.epochs": 1,
    "train.steps_per_epoch": 2, "optim.milestones": [],
}  # fmt: skip
SPACE = """
[base]
loss = { extra = "margin" }

[space]
"optim.lr" = { low = 1e-5, high = 1e-1, log = true }
"loss.extra_weight" = { low = 0.0, high = 2.0 }

[search]
sampler = "thorough_tpe"
trials = 12
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the project, with a module for each example."""
    folder = tmp_path_factory.mktemp("my_project")
    for kind, example in zip(MODULES, EXAMPLES, strict=True):
        (folder / f"my_{kind}.py").write_text(example)
    return folder


@pytest.fixture(autouse=True)
def _installed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules named in the environment; what they register is forgotten after each test."""
    for registry in (READERS, BACKBONES, extensions.LOSS_TERMS, extensions.LOGGERS, SAMPLERS):
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    monkeypatch.setenv(extensions.VARIABLE, ", ".join(f"my_{kind}" for kind in KINDS))
    monkeypatch.chdir(tmp_path)
    yield
    for kind in MODULES:
        sys.modules.pop(f"my_{kind}", None)


def write_beetles(raw: Path, *, images: int = 18, painted: bool = False) -> None:
    """Noise with random keypoints; `painted` faintly in a colour of their name."""
    rng = np.random.default_rng(0)
    for k in range(images):
        file = raw / ("train", "val", "test")[k % 3] / "stag" / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels_HW3 = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        points = {name: rng.uniform(1, 39, 2).tolist() for name in ("jaw", "wing", "leg", "tip")}
        for number, (x, y) in enumerate(points.values() if painted else ()):
            colour = [255 * (number & 1), 255 * (number >> 1), 128]
            around = (slice(max(int(y) - 5, 0), int(y) + 6), slice(max(int(x) - 5, 0), int(x) + 6))
            pixels_HW3[around] = 0.65 * pixels_HW3[around] + 0.35 * np.array(colour)
        Image.fromarray(pixels_HW3).save(file)
        file.with_suffix(".json").write_text(json.dumps(points))


def assignments(values: dict) -> list[str]:
    return [text for key, value in values.items() for text in ("--set", f"{key}={json.dumps(value)}")]


def test_the_command_line_prepares_and_trains_with_reader_backbone_and_loss_term(tmp_path, capsys):
    write_beetles(tmp_path / "raw")
    (tmp_path / "raw/train/stag/0.json").write_text("{broken")
    assert run.main(["--prepare", "beetles", "--raw", "raw", *assignments(SMALL)]) == 2
    assert "0.json" in capsys.readouterr().err
    assert run.main(["--prepare", "beetles", "--raw", "raw", "--skip-bad", *assignments(SMALL)]) == 0
    info = ObjectStore.open(Path("data/beetles")).info
    assert info.counts == {"train": {"stag": 5}, "val": {"stag": 6}, "test": {"stag": 6}}
    assert info.keypoint_names == {"stag": ["jaw", "leg", "tip", "wing"]}

    chosen = SMALL | {"loss.extra": "margin", "loss.extra_weight": 0.5, "train.loggers": ["lines"]}
    assert run.main(["--train", "beetles", *assignments(chosen)]) == 0
    (metrics,) = map(json.loads, Path("results/beetles-train/metrics.jsonl").read_text().splitlines())
    lines = Path("results/beetles-train/lines.txt").read_text()
    assert lines == f"beetles-train 1 {metrics['val/accuracy']}\n"
    terms = {name: metrics[f"train/loss/{name}"] for name in ("info_nce", "hyperspherical", "layer", "margin")}
    weighted = terms["info_nce"] + terms["hyperspherical"] + 0.3 * terms["layer"] + 0.5 * terms["margin"]
    assert metrics["train/loss"] == pytest.approx(weighted, rel=1e-5) and terms["margin"] > 0
    points = {"jaw": (3, 4), "wing": (50, 30), "leg": (20, 20)}
    matches = nmt.load_matcher("results/beetles-train").match(
        "raw/val/stag/1.png", points, "raw/val/stag/4.png", points
    )
    assert set(matches.names()) == set(points)


def test_the_backbone_gives_what_it_declares_and_its_weights_train():
    backbone = build_backbone(ModelConfig(backbone="two_convolutions", weights="random"), 64)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    maps = backbone(images)
    assert [tuple(value.shape) for value in maps] == [(2, 16, 8, 8), (2, 32, 4, 4), (2, 32)]
    maps.second_BCHW.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    again = build_backbone(ModelConfig(backbone="two_convolutions", weights="random"), 64)
    assert torch.equal(again(images).global_BG, maps.global_BG)


def test_the_loss_term_ignores_padding_and_is_zero_where_every_match_is_clear():
    def output(similarity: torch.Tensor, real: int) -> MatchOutput:
        num = similarity.shape[1]
        mask = torch.arange(num)[None] < real
        return MatchOutput(similarity, [], [], mask, mask)

    term = extensions.LOSS_TERMS.get("margin", source="test")
    clear = torch.eye(3)[None]
    assert term(output(clear, 3), torch.arange(3)[None]).tolist() == [0.0]
    swapped = clear[:, [1, 0, 2]]
    expected = term(output(swapped, 3), torch.arange(3)[None])
    assert expected.tolist() == pytest.approx([2 * 1.1 / 3])
    padded = torch.nn.functional.pad(swapped, (0, 2, 0, 2), value=0.9)
    match = torch.tensor([[0, 1, 2, -1, -1]])
    assert torch.allclose(term(output(padded, 3), match), expected)


def test_the_sampler_draws_the_trials_of_a_study(tmp_path):
    (tmp_path / "my.toml").write_text(SPACE)
    space = tune.load_space("my.toml")
    draws = []
    for path in ("first.db", "second.db"):
        study = SearchStudy(tmp_path / path, space)
        jobs = [study.next_job() for _ in range(6)]
        draws.append([job.config.optim.lr for job in jobs])
    assert draws[0] == draws[1] and len(set(draws[0])) == 6
    assert SAMPLERS.get("thorough_tpe", source="test") is sys.modules["my_sampler"].thorough_tpe


def test_a_wrong_name_is_one_line_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="loss.extra: no loss term 'margn'; did you mean 'margin'"):
        nmt.with_overrides(Config(), {"loss.extra": "margn"}, source="test")
    with pytest.raises(UserError, match="nearest: two_convolutions"):
        build_backbone(ModelConfig(backbone="two_convolution"), 64)
    (tmp_path / "my.toml").write_text(SPACE.replace("thorough_tpe", "thorough"))
    with pytest.raises(UserError, match='sampler must be one of tpe, gp, .*thorough_tpe, but got "thorough"'):
        tune.load_space("my.toml")
    with pytest.raises(UserError, match="did you mean --prepare beetles"):
        nmt.prepare("beetle", raw=tmp_path / "absent")


def test_a_network_of_pyg_learns_on_the_stream(tmp_path):
    write_beetles(tmp_path / "raw", images=240, painted=True)
    steps = {"train.epochs": 3, "train.steps_per_epoch": 40, "data.pairs_per_step": 8, "data.eval_pairs": 30}
    config = nmt.with_overrides(
        nmt.recipe("beetles", own=True),
        SMALL | steps | {"data.mode": "features", "optim.lr": 3e-3},
        source="test",
    )
    nmt.prepare(config, raw="raw")
    example = importlib.import_module("my_network")
    accuracy = example.train("data/beetles", config)
    one_step = {"optim.lr": 1e-9, "train.epochs": 1, "train.steps_per_epoch": 1}
    untrained = example.train("data/beetles", nmt.with_overrides(config, one_step, source="test"))
    assert accuracy > max(0.6, untrained + 0.1)


@pytest.mark.slow
def test_the_processes_of_a_search_load_the_extension(tmp_path):
    write_beetles(tmp_path / "raw")
    nmt.prepare("beetles", raw="raw", overrides=SMALL)
    base = "\n".join(f"{key} = {json.dumps(value)}" for key, value in (SMALL | {"data.name": "beetles"}).items())
    text = SPACE.replace("[base]", f"[base]\n{base}").replace("trials = 12", "trials = 2")
    (tmp_path / "beetles.toml").write_text(text)
    summary = tune.run_search(tune.load_space("beetles.toml"))
    assert [trial.state for trial in summary.trials] == ["COMPLETE", "COMPLETE"]
    assert all("train/loss/margin" in trial.last for trial in summary.trials)

"""A search at two fidelities: what the file may say, and a real one: a head on features, then a backbone on images."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import optuna
import pytest

import run
from nmt.config import load_config, to_flat
from nmt.data.prepare.features import add_features
from nmt.errors import UserError
from tune.driver.ray_session import ray_session
from tune.driver.two_stage import promote, run_stages
from tune.results.log import log
from tune.results.summary import load_summary
from tune.spaces.read import load_space
from tune.spaces.stages import exploration, final

TWO_STAGES = """
description = "explored on features"

[base]
data = { name = "tiny", image_size = 32, pairs_per_step = 2, eval_pairs = 8 }
model = { backbone = "tf_efficientnet_lite0", weights = "random", d_model = 16, heads = 2, decoder_layers = 1 }
optim = { lr = 1e-3, milestones = [] }
train = { epochs = 2, steps_per_epoch = 2 }

[features]
train = { steps_per_epoch = 8 }

[space]
"optim.lr" = { low = 1e-4, high = 1e-1, log = true }
"loss.layer" = { low = 0.0, high = 1.0 }

[search]
fidelity = ["features", "images"]
promote = 2
trials = 5
sampler = "random"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(TWO_STAGES)
    return path


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny data set with the features of a backbone that images mode can build."""
    shutil.copytree(tiny_data, tmp_path / "data")
    return tmp_path / "data"


def test_stages_are_the_search_on_features_with_its_changes_and_the_base_on_images(file: Path) -> None:
    space = load_space(file, {"optim.lr": 2e-3})
    low, high = exploration(space), final(space, [])
    assert (low.name, low.base.data.mode, low.base.train.steps_per_epoch) == ("features", "features", 8)
    assert (high.name, high.base.data.mode, high.base.train.steps_per_epoch) == ("images", "images", 2)
    assert low.base.optim.lr == high.base.optim.lr == 2e-3 and low.parameters == high.parameters == space.parameters
    assert low.search.trials == 5 and high.search.trials == 1 and not (low.fidelity or high.fidelity)
    assert space.base == high.base
    # What a stage's own directory is read with, by --confirm.
    assert load_space(file, to_flat(low.base)).base == low.base


ON_FEATURES = 'fidelity = ["features", "images"]\npromote = 2\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"loss.layer" = { low = 0.0, high = 1.0 }', '"optim.backbone_lr_scale" = { low = 0.0, high = 1.0 }',
         r"optim.backbone_lr_scale has no effect on features \(the backbone is frozen there\); set it in \[base\], or "
         r'search it with data.mode = "images" alone'),
        ('"loss.layer" = { low = 0.0, high = 1.0 }', '"data.mixup" = { low = 0.0, high = 1.0 }',
         "data.mixup has no effect on features"),
        ('"loss.layer" = { low = 0.0, high = 1.0 }', '"data.views" = { values = [1, 3] }',
         "data.views has no effect on images"),
        ('["features", "images"]', '["images", "features"]', r'fidelity must be \["features", "images"\] or left out'),
        ('["features", "images"]', '"features"', "fidelity must be"),
        ("promote = 2", "promote = 5", "promote = 5 is no choice among trials = 5.*at most 4"),
        (ON_FEATURES, "", r"\[features\] sets what differs on features, so it needs fidelity"),
        ("steps_per_epoch = 8", "seed = 8", r"\[features\] train.seed must be the same at both fidelities"),
        ("steps_per_epoch = 8", "steps = 8", "no configuration key 'train.steps'"),
        ("steps_per_epoch = 8", "steps_per_epoch = 0", "steps_per_epoch must be an integer at least 1"),
    ],
)  # fmt: skip
def test_mistake_in_the_file_is_named(file: Path, old: str, new: str, message: str) -> None:
    assert old in TWO_STAGES
    file.write_text(TWO_STAGES.replace(old, new))
    with pytest.raises(UserError, match=message):
        load_space(file)


def test_key_without_effect_is_refused_in_a_search_on_features_alone_and_taken_on_images(
    space_file: Path, space_text: str
) -> None:
    text = space_text.replace("[space]", '[space]\n"data.erasing" = { low = 0.0, high = 0.5 }')
    space_file.write_text(text)
    with pytest.raises(UserError, match="data.erasing has no effect on features .*search it with data.mode = .images."):
        load_space(space_file)
    load_space(space_file, {"data.mode": "images"})
    with pytest.raises(UserError, match=r"data.erasing on features needs stored views.*give values = \[\.\.\]"):
        load_space(space_file, {"data.views": 4})


def test_missing_features_are_named_before_anything_starts(file: Path, data: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = ["--search", str(file), "--data", str(data), "--results", str(results)]
    with pytest.raises(UserError, match="tf_efficientnet_lite0.*--features tf_efficientnet_lite0"):
        run_stages(load_space(file), results=results, data=data)
    assert run.main(arguments) == 2 and not results.exists()


class Stop(logging.Handler):
    """Interrupts at a line."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def emit(self, record: logging.LogRecord) -> None:
        if self.at in record.getMessage():
            raise KeyboardInterrupt


@pytest.mark.long
def test_best_on_features_train_on_images_and_a_search_interrupted_between_the_stages_goes_on_elsewhere(
    file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space, first, results, store = load_space(file), tmp_path / "first", tmp_path / "results", str(tmp_path / "store")
    directory = results / "two"
    add_features(data, space.base.model)
    command = ["--search", str(file), "--data", str(data), "--results", str(results), "--storage", store, "--json"]
    with ray_session():
        stop = Stop("Stage 2")
        log.addHandler(stop)
        with pytest.raises(KeyboardInterrupt):
            run_stages(space, results=first, data=data, storage=store, trials=4)
        log.removeHandler(stop)
        assert not (first / "two/images").exists() and not (first / "two/summary.json").exists()
        assert run.main(["--report", "two", "--results", str(first)]) == 0
        assert "Stage 1 of 2" in capsys.readouterr().out
        before = load_summary(first / "two/features")
        assert run.main([*command, "--resume", "--trials", "5"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])

    explored, whole = load_summary(directory / "features"), load_summary(directory)
    assert len(before.trials) == 4 and len(explored.trials) == 5
    assert [(t.id, t.searched, t.last.get("seconds")) for t in explored.trials[:4]] == [
        (t.id, t.searched, t.last.get("seconds")) for t in before.trials
    ]
    chosen = promote(explored, 2, directory)
    order = sorted(explored.trials[1:], key=lambda t: -(t.accuracy or 0))
    assert [g.params for g in chosen] == [t.searched for t in order[:2]]
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{directory / 'images/study.db'}")
    assert [t.user_attrs.get("origin") for t in study.trials] == [None, *(g.origin for g in chosen)]
    assert [t.params for t in study.trials[1:]] == [g.params for g in chosen]
    assert study.trials[0].params == load_space(file).default_params
    assert [t.origin for t in whole.trials] == [None, *(g.origin for g in chosen)]
    assert all(t.configuration["data"]["mode"] == "images" for t in whole.trials)
    assert whole.best is not None and found["best"] == whole.best.id
    assert (directory / str(whole.best.checkpoint)).is_file()
    assert load_config(directory / "best.json").data.mode == "images"

    assert run.main(["--report", "two", "--results", str(results)]) == 0
    out = capsys.readouterr().out
    places = [out.rindex(text) for text in ("Stage 1 of 2", "Rank correlation", "Stage 2 of 2", "Best: trial")]
    assert places == sorted(places) and f"features/{order[0].id}" in out
    assert run.main([*command, "--resume", "--trials", "9"]) == 2
    assert "the exploration on features has finished" in capsys.readouterr().err

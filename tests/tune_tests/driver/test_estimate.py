"""How long a search takes: from an earlier training, from a few steps, or not known and why."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt.config import to_dict, with_overrides
from nmt.data.store.ready import ready_data
from nmt.errors import UserError
from nmt.io.files import write_json
from tune.driver.estimate import Estimate, estimate, seconds_per_epoch
from tune.spaces.read import load_space
from tune.spaces.settings import Resources

HAS_GPU = torch.cuda.is_available()
IMAGES = {"data.mode": "images", "model.backbone": "test_resnet", "train.steps_per_epoch": 10}


@pytest.fixture
def estimated(space_file: Path, tiny_data: Path, tmp_path: Path) -> Callable[..., Estimate]:
    """The estimate of the tiny search, with changed keys or parts of its space."""

    def run(changes: dict[str, Any] | None = None, **parts: Any) -> Estimate:
        space = load_space(space_file, changes)
        space = dataclasses.replace(space, **parts)
        return estimate(space, data=ready_data(tiny_data, [space.base]), results=tmp_path / "results", at_once=2)

    return run


@pytest.mark.usefixtures("ray_running")
def test_the_time_of_steps_gives_that_with_early_stopping_and_at_most(estimated: Callable[..., Estimate]) -> None:
    found = estimated()
    assert found.epoch is not None and found.usual is not None and found.most == 20 and 4 < found.usual < 20
    assert found.hours(found.usual) == pytest.approx(found.usual * found.epoch / 2 / 3600)
    assert "with early stopping as usual, at most " in str(found) and "measured on a few steps" in str(found)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_search_on_images_is_measured_in_a_process_of_its_own(estimated: Callable[..., Estimate]) -> None:
    found = estimated(IMAGES)
    assert found.epoch is not None and found.epoch > 0, found.basis
    assert "measured on a few steps" in found.basis
    with pytest.raises(UserError):  # the mistake that a trial would meet
        estimated(IMAGES | {"model.weights": "/absent/weights.pt"})


@pytest.mark.usefixtures("ray_running")
def test_steps_are_not_timed_where_that_is_long_or_tells_nothing(estimated: Callable[..., Estimate]) -> None:
    assert "compile" in str(estimated({"train.compile": True}))
    assert "too few steps" in str(estimated(IMAGES | {"train.steps_per_epoch": 1}))
    assert "no node that trains has started" in str(estimated(IMAGES, resources=Resources(cpus=1000)))
    other = estimated(resources=Resources(gpus=0.0 if HAS_GPU else 1.0))
    assert other.epoch is None and str(other).startswith("not known: no training of this data set")
    assert other.to_dict() == {"hours": None, "usual_hours": None}
    assert estimated(resources=Resources(workers=2)).epoch is not None, "each of the two takes half of the pairs"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, "about 2 min with early stopping as usual, at most 5 min (60 s per epoch, measured)"),
        ({"usual": None}, "at most 5 min (60 s per epoch, measured)"),
        ({"usual": None, "most": float("inf")}, "until the search's limit (60 s per epoch, measured)"),
        ({"epoch": None, "basis": "the first steps compile"}, "not known: the first steps compile"),
    ],
)
def test_an_estimate_says_what_is_usual_and_what_it_can_be(known: dict[str, Any], words: str) -> None:
    values: dict[str, Any] = {"epoch": 60.0, "basis": "measured", "usual": 4, "most": 10, "side_by_side": 2}
    assert str(Estimate(**values | known)) == words


def train_before(results: Path, name: str, config: Any, metrics: bytes) -> None:
    write_json(results / name / "config.json", to_dict(config))
    (results / name / "metrics.jsonl").write_bytes(metrics)
    os.utime(results / name / "metrics.jsonl", (len(name), len(name)))  # a longer name is newer


def test_hours_come_from_earlier_epochs_of_the_same_model(
    estimated: Callable[..., Estimate], space_file: Path, tmp_path: Path
) -> None:
    base, results = load_space(space_file).base, tmp_path / "results"
    lines = [f'{{"epoch": {n + 1}, "val/accuracy": 0.5, "seconds": {s}}}\n' for n, s in enumerate((60, 120, 200))]
    same = with_overrides(base, {"train.steps_per_epoch": 8, "optim.lr": 0.5}, source="test")
    train_before(results, "same", same, "".join(lines).encode())
    other = with_overrides(base, {"model.decoder_layers": 2}, source="test")
    train_before(results, "others", other, b'{"epoch": 1, "val/accuracy": 0.5, "seconds": 1}\n')
    found = estimated()
    assert f"at most 5 min (30 s per epoch, as in {results / 'same'})" in str(found)
    # 5 trials of 4 epochs, 2 at once, half of 60 s each
    assert found.to_dict()["hours"] == pytest.approx(5 * 4 * 30 / 2 / 3600) and not found.shorter
    slow = b'{"epoch": 1, "val/accuracy": 0.5, "seconds": 36000}\n'
    train_before(results, "much newer", base, slow)
    found = estimated()
    assert found.shorter.startswith("--trials N (now 5), --set train.steps_per_epoch=N (now 4)")
    assert "model.d_model" in found.shorter and found.shorter.endswith("or a GPU")


@pytest.mark.parametrize(
    "content", [b"\0" * 99 + b"\n", b'{"epoch": 1}\n', b'{"epoch": 1, "val/accuracy": 0.5, "seconds": []}\n']
)
def test_damaged_metrics_of_another_training_are_left_out_of_the_estimate(
    space_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    base = load_space(space_file).base
    train_before(tmp_path, "whole", base, b'{"epoch": 1, "val/accuracy": 0.5, "seconds": 60}\n')
    train_before(tmp_path, "damaged", base, content)
    with caplog.at_level("INFO"):
        assert seconds_per_epoch(base, tmp_path) == (60.0, tmp_path / "whole")
    (line,) = caplog.messages
    assert "damaged/metrics.jsonl: not used to estimate the time of an epoch" in line and "\n" not in line

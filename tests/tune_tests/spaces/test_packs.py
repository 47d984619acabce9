"""How many trials train packed in one process, and which searches may ask for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nmt.config import with_overrides
from nmt.errors import UserError
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.packs import pack_size
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.spaces.stages import parts


@pytest.fixture
def space(space_file: Path) -> Space:
    """The tiny search, on features, with packed = "auto"."""
    return load_space(edited(space_file, "[search]", '[resources]\npacked = "auto"\n[search]'))


def on(space: Space, mode: str, **resources: Any) -> Space:
    base = with_overrides(space.base, {"data.mode": mode}, source="test")
    return dataclasses.replace(space, base=base, resources=dataclasses.replace(space.resources, **resources))


@pytest.mark.parametrize(
    ("mode", "gpus", "size"),
    [
        ("features", 0.0, 1),
        ("features", 0.05, 1),
        ("features", 0.25, 4),
        ("features", 0.5, 8),
        ("features", 1.0, 16),
        ("features", 2.0, 16),
        ("images", 0.0, 1),
        ("images", 0.25, 1),
        ("images", 1.0, 1),
    ],
)
def test_auto_packs_heads_on_features_on_a_gpu_alone(space: Space, mode: str, gpus: float, size: int) -> None:
    assert pack_size(on(space, mode, gpus=gpus)) == size


@pytest.mark.parametrize(("packed", "gpus"), [(1, 1.0), (3, 0.0), (3, 1.0)])
def test_a_number_is_taken_as_it_is(space: Space, packed: int, gpus: float) -> None:
    assert pack_size(on(space, "features", packed=packed, gpus=gpus)) == packed


OBSTACLES = [
    ("[search]", "[search]", {"workers": 2}, "trains in one process: workers must be 1, but is 2"),
    ("[search]", '[search]\nscheduler = "ray_median"', {}, 'needs scheduler "asha", "hyperband" or "fifo"'),
    (
        "[search]",
        '[search]\nscheduler = "fifo"\nobjectives = ["val/accuracy", "inference_seconds"]',
        {},
        "measures no trial's own inference_seconds",
    ),
    (LR, f'{LR}\n"model.heads" = {{ values = [1, 2], when = {{ "optim.lr" = "> 1e-3" }} }}', {}, "its condition reads"),
    ("steps_per_epoch = 4", "steps_per_epoch = 4, compile = true", {}, "packed trials need train.compile = False"),
]


@pytest.mark.parametrize(("old", "new", "resources", "message"), OBSTACLES)
def test_what_no_pack_can_train_is_refused_with_a_number_and_trains_alone_with_auto(
    space_file: Path, old: str, new: str, resources: dict[str, Any], message: str
) -> None:
    table = "".join(f"{name} = {value}\n" for name, value in resources.items())
    text = space_file.read_text().replace(old, new, 1) + f"[resources]\ngpus = 1\n{table}packed = "
    space_file.write_text(text + '"auto"\n')
    assert pack_size(load_space(space_file)) == 1
    space_file.write_text(text + "4\n")
    with pytest.raises(UserError, match=rf"tiny.toml: \[resources\] packed = 4.*{message}"):
        load_space(space_file)


@pytest.mark.parametrize("value", ["0", '"many"', "1.5", "true"])
def test_a_wrong_number_is_named(space_file: Path, value: str) -> None:
    with pytest.raises(UserError, match=r"packed must be an integer at least 1, or auto, but got"):
        load_space(edited(space_file, "[search]", f"[resources]\npacked = {value}\n[search]"))


def test_of_two_stages_only_the_one_on_features_is_packed(space: Space) -> None:
    staged = dataclasses.replace(on(space, "images", gpus=1.0), fidelity=("features", "images"))
    assert [pack_size(part) for part in parts(staged)] == [16, 1]

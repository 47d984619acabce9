"""The size of a training's files, against real ones, and a disk that is too small for them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nmt.data.store.features import open_features
from nmt.errors import UserError
from nmt.training.loop import train
from nmt.training.plan import plan_training
from nmt.training.sizes import Sizes, in_bytes, room, training_sizes
from tests.nmt_tests.toy_training import small


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data__mode": "images"},
        {"data__mode": "images", "optim__backbone_lr_scale": 0.0},
        {"model__spline": False, "model__normalized": False, "model__decoder_layers": 1},
        {"train__ema": 0.9},
    ],
    ids=["features", "images", "frozen", "plain", "averaged"],
)
def test_a_real_checkpoint_is_within_a_tenth_of_what_was_said(toy_data: Path, tmp_path: Path, changes) -> None:
    config = small(train__epochs=1, train__steps_per_epoch=1, **changes)
    features = open_features(toy_data, config) if config.data.mode == "features" else None
    said = training_sizes(config, features=features)
    train(config, data=toy_data, directory=tmp_path)
    assert (tmp_path / "checkpoint.pt").stat().st_size == pytest.approx(said.checkpoint, rel=0.1)
    assert (tmp_path / "best.pt").stat().st_size == pytest.approx(said.best, rel=0.1)


def test_a_training_holds_three_checkpoints_at_once() -> None:
    sizes = Sizes(checkpoint=300, best=100)
    assert (sizes.running, sizes.paused) == (1000, 700)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root")
def test_a_training_that_cannot_fit_is_refused_before_it_starts(toy_data: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(
            UserError, match=r"needs .* for its checkpoints, and its disk has room for 3\d\d KB; free"
        ) as e:
            plan_training(small(), data=toy_data, directory=disk / "run", resume=False, timed=False)
        assert "\n" not in str(e.value) and not (disk / "run").exists()
        (disk / "run").mkdir()
        free = room(disk / "run")
        (disk / "run" / "checkpoint.pt").write_bytes(b"x" * 100_000)  # its own files are replaced, not added to
        assert room(disk / "run") == pytest.approx(free, abs=8192) and room(disk) == room(disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("count", "words"), [(900, "1 KB"), (61e6, "61 MB"), (1.234e9, "1.2 GB"), (2.63e11, "263 GB"), (4e12, "4.0 TB")]
)
def test_a_size_is_rounded(count: float, words: str) -> None:
    assert in_bytes(count) == words

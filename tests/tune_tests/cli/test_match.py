"""What `--match` refuses before it loads a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

FILES = ["--images", "a.jpg", "b.jpg", "--keypoints", "a.csv", "b.csv"]


@pytest.mark.parametrize("given", [FILES[:3], FILES[3:], []])
def test_images_and_keypoints_go_together(refused, given):
    assert "--match needs --images A B and --keypoints A.csv B.csv (lines name,x,y in pixels)" in refused(
        "--match", "willow", *given
    )


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("b.jpg", "b.jpg: no image there"),
        ("a.csv", "a.csv: no keypoint file there"),
        ("best.pt", "no checkpoint there"),
    ],
)
def test_a_missing_file_is_named(refused, missing, message):
    for name in {"a.jpg", "b.jpg", "a.csv", "b.csv", "best.pt"} - {missing}:
        Path(name).write_bytes(b"")
    assert message in refused("--match", "best.pt", *FILES)

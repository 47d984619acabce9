"""What `--match` refuses before it loads a checkpoint."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from nmt.api import load_matcher
from nmt.errors import UserError
from nmt.inference.evaluate import evaluate_checkpoint
from tests.small_model import write_checkpoint
from tune.cli.main import main

FILES = ["--images", "a.jpg", "b.jpg", "--keypoints", "a.csv", "b.csv"]


@pytest.mark.parametrize("given", [FILES[:3], FILES[3:], []])
def test_images_and_keypoints_go_together(refused, given):
    assert "--match needs --images A B and --keypoints A.csv B.csv (lines name,x,y in pixels)" in refused(
        "--match", "willow", *given
    )


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("pair.jpg", "pair.jpg: the picture is written as PNG"),
        ("absent/pair.png", "absent/pair.png: no folder absent"),
        ("a.png", "a.png: is one of the images to read"),
    ],
)
def test_where_the_picture_goes_is_checked_first(refused, out, message):
    Path("a.png").write_bytes(b"")
    files = ["--images", "a.png", "a.png", *FILES[3:]]
    assert message in refused("--match", "best.pt", *files, "--out", out)


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


@pytest.mark.parametrize("place", [1, 4])
@pytest.mark.parametrize(
    ("name", "message"),
    [(".", ": is a folder; give the "), ("x" * 300, ": cannot be read (File name too long)"), ("a.jpg/b", " there\n")],
)
def test_what_is_no_file_is_one_line(refused, place, name, message):
    for path in ("a.jpg", "b.jpg", "a.csv", "b.csv", "best.pt"):
        Path(path).write_bytes(b"")
    assert message in refused("--match", "best.pt", *FILES[:place], name, *FILES[place + 1 :])


def test_images_and_keypoints_in_each_others_place_are_one_line(refused):
    write_checkpoint(Path("best.pt"))
    Image.new("RGB", (60, 40)).save("a.png")
    Path("a.csv").write_text("beak,10,20\ntail,5,6\n")
    right = ["--images", "a.png", "a.png", "--keypoints", "a.csv", "a.csv"]
    swapped = ["--images", "a.csv", "a.csv", "--keypoints", "a.png", "a.png"]
    assert "a.csv: not a readable image (its format is not known" in refused("--match", "best.pt", *swapped)
    of_images = [*right[:4], "a.png", "a.png"]
    assert "a.png: not readable keypoints (it is a PNG image)" in refused("--match", "best.pt", *of_images)
    assert main(["--match", "best.pt", *right]) == 0 and Path("match.png").is_file()


def test_a_flipped_byte_in_the_weights_is_one_line_of_every_job_that_reads_them(refused):
    path = write_checkpoint(Path("best.pt"))
    Image.new("RGB", (60, 40)).save("a.png")
    Path("a.csv").write_text("beak,10,20\ntail,5,6\n")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    told = "best.pt: a damaged checkpoint: its content is not what was written (SHA-256)"
    assert told in refused("--match", "best.pt", "--images", "a.png", "a.png", "--keypoints", "a.csv", "a.csv")
    for read in (load_matcher, partial(evaluate_checkpoint, data=Path(), split="val")):
        with pytest.raises(UserError, match=re.escape(told)):
            read(path)

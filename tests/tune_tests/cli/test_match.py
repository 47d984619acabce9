"""What `--match` prints and writes, and what it refuses before it loads a checkpoint."""

from __future__ import annotations

import csv
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmt import checkpoint
from nmt.api import load_matcher
from nmt.confidence import IN_CHECKPOINT, Calibration
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


def files_of(*names: str) -> None:
    """Write images, and keypoints with other names than the checkpoint knows."""
    for k, name in enumerate(names):
        values = np.random.default_rng(k).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(values).save(f"{name}.png")
        Path(f"{name}.csv").write_text("beak,10,20\ntail,5,6\nwing,50,30\n")


def calibrated(path: Path, threshold: float) -> Path:
    """Write best.pt with a calibration and what it was trained on."""
    content = checkpoint.load(write_checkpoint(path))
    del content["version"]
    found = Calibration((1.0, 0.0, 0.0, 0.0), 0.0, threshold, "f1", {}, {}, ())
    known = {"categories": ["car"], "keypoint_names": {"car": ["wheel"]}, IN_CHECKPOINT: found.to_dict()}
    checkpoint.save(path, {**content, **known})
    return path


PAIR = ["--images", "a.png", "b.png", "--keypoints", "a.csv", "b.csv"]


def test_what_matches_what_does_not_and_what_was_never_trained_is_printed(capsys):
    files_of("a", "b")
    calibrated(Path("best.pt"), 0.99)
    assert main(["--match", "best.pt", *PAIR, "--json"]) == 0
    printed = capsys.readouterr()
    *lines, last = printed.out.splitlines()
    assert lines == [
        "no keypoint matched",
        "no match of the source: beak, tail, wing",
        "no match of the target: beak, tail, wing",
        "0 of 3 matched: these images may not show the same object",
        "0 of 3 right, by the names that both files have",
        "picture: match.png",
    ]
    assert printed.err == (
        "warning: a.csv: none of its keypoint names was in the training (on car); the matches may be worth little\n"
    )
    found = json.loads(last)
    assert found["matches"] == {"beak": None, "tail": None, "wing": None} and found["rows"] == []
    assert found["verdict"] in lines and found["warning"] in printed.err
    assert main(["--match", "best.pt", *PAIR, "--set", "decode.unmatched=off"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "source  target  confidence"


def test_without_a_calibration_every_keypoint_matches_and_one_line_says_so(capsys):
    files_of("a", "b")
    write_checkpoint(Path("best.pt"))
    assert main(["--match", "best.pt", *PAIR]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "source  target  raw score" and "may not show" not in printed.out
    assert printed.err.startswith("best.pt: has no calibration") and printed.err.count("\n") == 1


def test_a_list_of_pairs_gives_a_table_and_pictures(capsys):
    files_of("a", "b")
    calibrated(Path("best.pt"), 0.0)
    lines = ["a.png,a.csv,b.png,b.csv", "b.png,b.csv,a.png,a.csv"]
    Path("list.csv").write_text("\n".join(["image0,keypoints0,image1,keypoints1", *lines]))
    assert main(["--match", "best.pt", "--pairs", "list.csv", "--out", "new/found", "--json"]) == 0
    printed = capsys.readouterr()
    out = Path("new/found")
    assert sorted(path.name for path in out.iterdir()) == ["matches.csv", "pair-001.png", "pair-002.png"]
    rows = list(csv.DictReader((out / "matches.csv").open()))
    assert [row["pair"] for row in rows if row["source"]] == ["1"] * 3 + ["2"] * 3
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows if row["confidence"])
    found = json.loads(printed.out.splitlines()[-1])
    assert [pair["images"] for pair in found["pairs"]] == [["a.png", "b.png"], ["b.png", "a.png"]]
    assert "a.png -> b.png: 3 of 3 matched" in printed.out and printed.err.count("warning: ") == 1


def test_a_bad_list_leaves_nothing_behind(refused):
    files_of("a")
    write_checkpoint(Path("best.pt"))
    Path("list.csv").write_text("image0,keypoints0,image1,keypoints1\na.png,a.csv,absent.png,a.csv\n")
    given = ["--match", "best.pt", "--pairs", "list.csv"]
    assert "list.csv, line 2: absent.png: no such image" in refused(*given)
    assert "--images: --pairs gives the images and the keypoints; leave it out" in refused(*given, *PAIR[:3])
    assert "list.csv: is a file; --pairs writes a folder" in refused(*given, "--out", "list.csv")
    assert "no list of pairs there" in refused(*given[:3], "none.csv")
    assert not Path("matches").exists()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("beak,10,20\ntail,61,6\n", "a.csv: keypoint 'tail' lies outside the image of 60 x 40 pixels"),
        ("beak,10,20\ntail,inf,6\n", "a.csv: keypoint 'tail' is NaN or infinite"),
        ("beak,10,20\n", "a.csv: 1 keypoint; matching needs at least two"),
        ("", "a.csv: no keypoints in it"),
    ],
)
def test_bad_keypoints_are_one_line_and_no_picture(refused, points, message):
    files_of("a", "b")
    write_checkpoint(Path("best.pt"))
    Path("a.csv").write_text(points)
    assert message in refused("--match", "best.pt", *PAIR)
    assert not Path("match.png").exists()


def test_an_image_of_one_pixel_or_of_too_many_is_one_line(refused):
    files_of("a", "b")
    write_checkpoint(Path("best.pt"))
    Image.new("RGB", (1, 1)).save("a.png")
    Path("a.csv").write_text("beak,0,0\ntail,1,1\n")
    assert "a.csv: their image has 1 x 1 pixels, but at least 8 x 8" in refused("--match", "best.pt", *PAIR)
    Image.new("1", (20_000, 20_000)).save("a.png")
    assert "a.png: 400 megapixels, but at most 179 are read" in refused("--match", "best.pt", *PAIR)

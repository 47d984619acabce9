from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmt.errors import UserError
from nmt.inference.pair_list import read_pair_list

HEADER = "image0,keypoints0,image1,keypoints1\n"
GOOD = "in/a.png,in/a.csv,in/b.png,in/b.csv\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images and their keypoints, beside the list."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "in" / f"{name}.png")
        (tmp_path / "in" / f"{name}.csv").write_text("nose,1,2\ntail,9,8\n")
    (tmp_path / "in" / "bad.csv").write_text("nose,1,2\ntail,90,8\n")
    return tmp_path


def read(folder: Path, content: str):
    (folder / "list.csv").write_text(content)
    return read_pair_list(folder / "list.csv")


def test_paths_are_relative_to_the_list_and_columns_in_any_order(folder, monkeypatch):
    monkeypatch.chdir("/")
    pairs = read(folder, HEADER + GOOD + GOOD)
    assert len(pairs) == 2 and pairs[0].images == (folder / "in/a.png", folder / "in/b.png")
    assert pairs[0].keypoints[0].points == {"nose": (1.0, 2.0), "tail": (9.0, 8.0)} and pairs[0].arrays is None
    other = read(folder, f"note;image1;keypoints1;image0;keypoints0\nx;in/b.png;in/b.csv;{folder}/in/a.png;in/a.csv\n")
    assert [pair.label for pair in other] == ["a.png -> b.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "list.csv: no column image0, keypoints0, image1, keypoints1"),
        (HEADER, "list.csv: no pairs in it; below image0,keypoints0,image1,keypoints1, each line is a pair"),
        ("image0,image1\n", "list.csv: no column keypoints0, keypoints1"),
        (HEADER + GOOD + "in/a.png,in/a.csv,,in/b.csv\n", "list.csv, line 3: no image1"),
        (HEADER + "in/c.png,in/a.csv,in/b.png,in/b.csv\n", r"list.csv, line 2: .*in/c.png: no such image"),
        (HEADER + "in/a.csv,in/a.csv,in/b.png,in/b.csv\n", r"line 2: .*in/a.csv: not a readable image"),
        (HEADER + GOOD + "in/a.png,in/bad.csv,in/b.png,in/b.csv\n", r"line 3: .*bad.csv: keypoint 'tail' lies outside"),
        (HEADER + "in/a.png\n", "line 2: fewer columns"),
    ],
)
def test_a_bad_line_is_named(folder, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(folder, content)
    assert "\n" not in str(error.value)


def test_of_many_bad_lines_the_first_are_told(folder):
    bad = "".join(f"in/{n}.png,in/a.csv,in/b.png,in/b.csv\n" for n in range(6))
    with pytest.raises(UserError, match=r"line 2: .*0.png.*; line 4: .*1.png.*; line 5: .*; and 3 more bad lines$"):
        read(folder, HEADER + bad.replace("in/1.png", GOOD + "in/1.png", 1))

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nmt.errors import UserError
from nmt.inference.keypoint_files import Labelled
from nmt.inference.match import FilePair
from tests.nmt_tests.inference.test_matches import matches
from tune.cli.match_list import check_folder, picture_name, writing


def pairs(*names: str) -> list[FilePair]:
    """Pairs of an image with itself."""
    none = Labelled({}, None)
    return [FilePair((Path(name), Path(name)), (Path("x.csv"), Path("x.csv")), (none, none)) for name in names]


def test_a_row_for_each_match_and_for_each_keypoint_without_one():
    with writing(Path("out"), pairs("a.png")) as written:
        written.add(matches())
        assert not written.table.exists()  # nothing takes its place before the end
    assert written.table.read_text().splitlines() == [
        "pair,image0,image1,source,target,confidence",
        "1,a.png,a.png,nose,nose,0.7500",
        "1,a.png,a.png,tail,tail,0.5000",
        "1,a.png,a.png,ear,,",
        "1,a.png,a.png,,fin,",
    ]
    assert sorted(os.listdir("out")) == ["matches.csv", "pair-001.png"]


def test_an_error_leaves_no_new_folder_and_an_earlier_one_as_it_was():
    for _ in range(2):
        with pytest.raises(KeyError), writing(Path("out"), pairs("a.png", "b.png")) as written:
            written.add(matches(image0=np.zeros((9, 9, 3), np.uint8)))
            raise KeyError
        assert not Path("out").exists() or os.listdir("out") == ["mine.txt"]
        Path("out").mkdir(exist_ok=True)
        Path("out/mine.txt").write_text("kept")


def test_a_picture_never_replaces_an_image_of_the_list():
    message = r"pair-001\.png: is one of the images to read"
    with pytest.raises(UserError, match=message), writing(Path("."), pairs("pair-001.png")):
        raise AssertionError("not reached")


def test_names_are_in_the_order_of_the_pairs():
    assert picture_name(7, 20) == "pair-007.png" and picture_name(7, 12345) == "pair-00007.png"


def test_a_place_that_cannot_be_a_folder_is_refused():
    Path("file").write_text("")
    with pytest.raises(UserError, match="file: is a file; --pairs writes a folder"):
        check_folder(Path("file"))
    check_folder(Path("a/b/c"))

"""Keypoints of one image: small tables, whole tables, JSON and annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.inference.keypoint_files import read_labelled
from tests.nmt_tests.data.readers.raw_sets import or_one_line

EXPECTED = {"beak": (10.0, 20.5), "tail": (60.0, 30.0)}
LINES = ["beak,10,20.5", "tail,60,30"]
POINTS_CSV = [
    "image,category,keypoint,x,y,split",
    "a.jpg,bird,beak,10,20.5,train",
    "b.jpg,bird,beak,1,2,train",
    "a.jpg,bird,tail,60,30,train",
    "a.jpg,bird,wing,,,train",
    "b.jpg,bird,tail,wrong,4,train",
]


def read(folder: Path, content: str | bytes | list[str] | Any, image: str = "photos/a.jpg") -> dict[str, Any]:
    """Write a keypoint file (lines, text, bytes, or anything else as JSON) and read it."""
    file = folder / "keypoints"
    if content and isinstance(content, list) and all(isinstance(line, str) for line in content):
        content = "\n".join(content)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labelled(file, image=folder / image).points


# --- tables ---


@pytest.mark.parametrize("first", [[], ["name,x,y"], ["keypoint,x,y"], ["Name, X, Y"], ["KEYPOINT,X,Y"]])
def test_lines_with_and_without_a_first_line_that_names_them(tmp_path, first):
    assert read(tmp_path, [*first, LINES[0], "", LINES[1], "wing,,"]) == EXPECTED


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + "\n".join(LINES),
        "\r\n".join(["name,x,y", *LINES]).encode("utf-16"),
        "beak;10,0;20,5\ntail;60;30\n",
        "sep=;\nname;x;y\nbeak;10;20,5\ntail;60;30",
        "name\tx\ty\nbeak\t10\t20.5\ntail\t60\t30",
        " beak , 10,\t20.5 \n tail,60 ,30,\n",
        "beak 10 20.5\ntail 60 30\n",
        "x,y,visible,name\n10,20.5,1,beak\n60,30,0,tail",
    ],
)
def test_spreadsheets_of_many_kinds_hold_the_same(tmp_path, content):
    assert read(tmp_path, content) == EXPECTED


def test_names_are_composed_and_may_hold_blanks_and_slashes(tmp_path):
    assert list(read(tmp_path, ["o\u0308hr links 1 2", "eye/left 3 4"])) == ["öhr links", "eye/left"]


@pytest.mark.parametrize("image", ["a.jpg", "photos/a.jpg", "A.JPG"])
@pytest.mark.parametrize("rows", [POINTS_CSV, [row.replace("a.jpg", "train\\A.jpg") for row in POINTS_CSV]])
def test_of_a_whole_table_the_rows_of_the_image_count(tmp_path, rows, image):
    assert read(tmp_path, rows, image) == EXPECTED
    assert read(tmp_path, [row.replace(";", ",").replace(",", ";") for row in rows], image) == EXPECTED


def test_an_image_is_found_by_composed_letters(tmp_path):
    rows = ["image,keypoint,x,y", "mo\u0308we.jpg,beak,10,20.5", "mo\u0308we.jpg,tail,60,30", "other.jpg,tail,1,2"]
    assert read(tmp_path, rows, "möwe.jpg") == EXPECTED


def test_of_equal_names_in_two_folders_the_path_decides(tmp_path):
    rows = ["image,keypoint,x,y", "train/a.jpg,beak,10,20.5", "train/a.jpg,tail,60,30", "val/a.jpg,beak,1,2"]
    assert read(tmp_path, rows, "train/a.jpg") == EXPECTED
    assert read(tmp_path, rows, "val/a.jpg") == {"beak": (1.0, 2.0)}
    with pytest.raises(
        UserError, match=r"'a\.jpg' may be 'train/a\.jpg', 'val/a\.jpg'; give the image with its folder"
    ):
        read(tmp_path, rows, "a.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([LINES[0], "tail,6O,30"], ", line 2: expected lines name,x,y in pixels; x must be a number, but is '6O'"),
        (["tail,1,"], ", line 1: .*; y must be a number, but is ''"),
        (["point,px,py", *LINES], ", line 1: .*; x must be a number, but is 'px'"),
        ([LINES[0], "tail,3"], ", line 2: expected lines name,x,y in pixels, but got 'tail,3'"),
        ([LINES[0], "tail"], ", line 2: expected lines name,x,y in pixels, but got 'tail'"),
        (["beak,1,2,3,4"], ", line 1: expected lines name,x,y in pixels, but got 'beak,1,2,3,4'"),
        (["name,x,y", LINES[0], "tail,3"], ", line 3: fewer columns than the first line names; it lacks 'y'"),
        (["beak,1,2", "", "tail,3,4", "beak,1,2"], ", line 4: 'beak' is in line 1 already; keep one of them"),
        (["ö,1,2", "o\u0308,3,4"], ", line 2: 'ö' is in line 1 already"),
        (["a\u00a0b,1,2"], r", line 1: a keypoint: .*U\+00A0"),
        ([",1,2"], ", line 1: a keypoint needs a name"),
        (["id,x,y", "1,2,3"], ": no column name or keypoint; the first line names them: name,x,y"),
        (["name,x,y"], ": no keypoints in it; expected lines name,x,y in pixels"),
        ("", ": no keypoints in it; expected lines name,x,y in pixels"),
        ("\n \n", ": no keypoints in it"),
        (["name,x,y", f"beak,1,{'2' * 200_000}"], ", line 2: not readable CSV"),
        (b"\xff\xd8\xff\xe0\0\0", ": not readable keypoints .it is a JPEG image"),
        (bytes(range(255)), ": not readable keypoints"),
        (POINTS_CSV[:1], r": no keypoints of 'a\.jpg'"),
        ([*POINTS_CSV, "a.jpg,bird,beak,1,2,train"], r", line 7: beak of a\.jpg is labelled twice; a table holds one"),
        (
            [*POINTS_CSV, "a.jpg,dog,nose,1,2,train"],
            r": 'a\.jpg' has 2 objects, bird/a.jpg, dog/a.jpg; write the keypoints of one",
        ),
        (
            [row.replace("a.jpg", "c.jpg") for row in POINTS_CSV],
            r": no keypoints of 'a\.jpg'; it names 'c\.jpg', 'b\.jpg'",
        ),
    ],
)
def test_a_wrong_table_is_one_line_that_says_what_is_right(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"/keypoints{message}") as error:
        read(tmp_path, content)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 600


def test_what_is_no_file_is_one_line(tmp_path):
    for path, message in (
        (tmp_path, "is a folder; give the file itself"),
        (tmp_path / "absent", "absent: no such file"),
    ):
        with pytest.raises(UserError, match=message):
            read_labelled(path, image=tmp_path / "a.jpg")


# --- JSON ---


def coco(**changes: Any) -> dict[str, Any]:
    """COCO keypoints of a.jpg and b.jpg."""
    found = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "bird", "keypoints": ["beak", "tail", "wing"]}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 1, "keypoints": [10, 20.5, 2, 60, 30, 1, 0, 0, 0]},
            {"id": 6, "image_id": 2, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 2, 0, 0, 0]},
        ],
    }
    return {**found, **changes}


OBJECT = {"image": "a.jpg", "category": "bird", "keypoints": {"beak": [10, 20.5], "tail": [60, 30], "wing": None}}


@pytest.mark.parametrize(
    "content",
    [
        {"beak": [10, 20.5], "tail": ["60", 30], "wing": None},
        {"keypoints": {"beak": [10, 20.5], "tail": [60, 30]}},
        OBJECT,
        [OBJECT],
        [{**OBJECT, "image": "b.jpg", "keypoints": "wrong"}, OBJECT],
        coco(),
        {**coco(), "images": [{"id": 1, "file_name": "train/A.jpg"}, {"id": 2, "file_name": "b.jpg"}]},
    ],
)
def test_json_holds_the_same(tmp_path, content):
    assert read(tmp_path, content) == EXPECTED
    assert read(tmp_path, json.dumps(content).encode("utf-16")) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"beak": [1, 2], "beak": [3, 4]}', ": an object has the key 'beak' twice; keep one of them"),
        ('{"beak": [1, 2', r": not readable JSON"),
        ({"beak": [1, 2, 2]}, r"keypoint beak must be \[x, y\], but is \[1, 2, 2\]"),
        ({"beak": [1, "left"]}, "keypoint beak must be a number, but is 'left'"),
        ({"beak": 3}, r': expected {"NAME": \[x, y\], ...} in pixels, or annotations that --prepare reads'),
        ([[1, 2], [3, 4]], r': expected {"NAME": \[x, y\]'),
        ([], r": no keypoints of 'a\.jpg'"),
        ([{**OBJECT, "image": "c.jpg"}], r": no keypoints of 'a\.jpg'; it names 'c\.jpg'"),
        ([OBJECT, OBJECT], r": 'a\.jpg' has 2 objects, bird/a\.jpg, bird/a\.jpg#1; write the keypoints of one"),
        (coco(categories=[{"id": 1, "name": "bird"}]), ": no category names its keypoints"),
        ({"images": [], "annotations": [{"caption": "a bird"}]}, ": no category names its keypoints; add"),
        (coco(annotations=[]), r": no keypoints of 'a\.jpg'"),
    ],
)
def test_wrong_json_is_one_line(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"/keypoints.*{message}") as error:
        read(tmp_path, content)
    assert len(str(error.value).splitlines()) == 1


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects with the keys that the formats look for, among others."""
    keys = ["image", "images", "annotations", "categories", "keypoints", "category", "shapes", "beak"]
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=2), values)


json_values = st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda x: st.lists(x) | objects(x))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text('ab,;\t "\n1.5{}[]:xynameNULL', max_size=80) | json_values)
def test_anything_is_read_or_is_one_line(tmp_path, content):
    with or_one_line():
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "category"),
    [
        ("beak,10,20\ntail,5,6\n", None),
        ("name,x,y\nbeak,10,20\ntail,5,6\n", None),
        ("image,category,keypoint,x,y\na.jpg,bird,beak,10,20\na.jpg,bird,tail,5,6\n", "bird"),
        (json.dumps({"beak": [10, 20]}), None),
        (json.dumps([OBJECT]), "bird"),
        (json.dumps(coco()), "bird"),
    ],
)
def test_the_category_is_read_where_a_file_has_one(tmp_path, content, category):
    (tmp_path / "keypoints").write_text(content)
    assert read_labelled(tmp_path / "keypoints", image=Path("a.jpg")).category == category

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.readers.own.deeplabcut import NAME
from nmt.data.readers.own.source import NO_KEYPOINTS
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import images, listing_or_one_line, read
from tests.nmt_tests.data.readers.own.tools import Labelled, birds, dlc_rows, write_rows
from tests.nmt_tests.data.readers.raw_sets import SQUARE

NOTE = f"{NAME}: objects without a category have the category object"


def project(root: Path, videos=("v",), num: int = 12) -> Path:
    for video in videos:
        images(root, num, f"labeled-data/{video}")
        rows = dlc_rows(birds(num), folder=f"labeled-data\\{video}\\")
        write_rows(root / "labeled-data" / video / "CollectedData_me.csv", rows)
    return root


@pytest.mark.parametrize("raw", ["", "labeled-data", "labeled-data/v"])
def test_a_project_is_read_at_any_depth(tmp_path, raw):
    root = project(tmp_path) / raw
    listing = read(root)
    assert len(listing.entries) == 12 and NOTE in listing.notes
    assert {entry.image.parent for entry in listing.entries} == {tmp_path / "labeled-data" / "v"}
    assert listing.entries[0].points == SQUARE and listing.entries[0].category == "object"


def test_each_video_has_a_table_and_the_copies_for_training_are_ignored(tmp_path):
    project(tmp_path, ("v", "test_2", "renamed"))
    (tmp_path / "labeled-data" / "renamed").rename(tmp_path / "labeled-data" / "train")
    copied = tmp_path / "training-datasets" / "iteration-0" / "CollectedData_me.csv"
    write_rows(copied, dlc_rows(birds()))
    listing = read(tmp_path)
    assert len(listing.entries) == len({entry.id for entry in listing.entries}) == 36 and len(listing.files) == 3
    # The folders have the names of videos, so the words in them are no splits.
    assert not any("by file name" in note for note in listing.notes)


@pytest.mark.parametrize("folders", [["labeled-data", "v"], ["labeled-data\\v"]])
def test_the_frame_may_have_several_columns(tmp_path, folders):
    images(tmp_path, 12, "labeled-data/v")
    header, rows = dlc_rows(birds(), folder="")[:3], dlc_rows(birds(), folder="")[3:]
    blank = [""] * len(folders)
    header = [[row[0], *blank, *row[1:]] for row in header]
    write_rows(tmp_path / "CollectedData_me.csv", [*header, *([*folders, *row] for row in rows)])
    assert {entry.photo for entry in read(tmp_path).entries} == {f"labeled-data/v/{k}.jpg" for k in range(12)}


def test_empty_cells_and_nan_are_not_labelled(tmp_path):
    images(tmp_path, 14, "labeled-data/v")
    found = birds(14)
    found[0] = Labelled("0.jpg", {"a": (1, 2), "b": (3, 4)})
    found[1] = Labelled("1.jpg", {"a": (math.nan, math.nan), "b": (3, 4), "c": (5, 6)})
    found[2] = Labelled("2.jpg", {"a": ("NaN", "nan")})
    found[3] = Labelled("3.jpg", {})
    write_rows(tmp_path / "CollectedData_me.csv", dlc_rows(found))
    listing = read(tmp_path)
    points = {entry.photo.rpartition("/")[2]: set(entry.points) for entry in listing.entries}
    assert points["0.jpg"] == {"a", "b"} and points["1.jpg"] == {"b", "c"}
    assert listing.left_out == {NO_KEYPOINTS: 2} and len(listing.entries) == 12


def multi_animal(num: int = 12) -> list[list[object]]:
    who = ["mickey"] * 6 + ["minnie"] * 6 + ["single"] * 4
    parts = [*[part for part in "abc" for _ in "xy"] * 2, *[part for part in ("left", "right") for _ in "xy"]]
    header = [["scorer", *["me"] * 16], ["individuals", *who], ["bodyparts", *parts], ["coords", *["x", "y"] * 8]]
    one, two, scene = [1, 1, 9, 1, 5, 9], [21, 1, 29, 1, 25, 9], [0, 0, 39, 19]
    rows = [
        [f"labeled-data/v/{k}.jpg", *one, *(two if k < 6 else [""] * 6), *(scene if k % 2 else ["nan"] * 4)]
        for k in range(num)
    ]
    return [*header, *rows]


def test_individuals_are_objects_cut_out_at_their_keypoints(tmp_path):
    images(tmp_path, 12, "labeled-data/v")
    write_rows(tmp_path / "labeled-data" / "v" / "CollectedData_me.csv", multi_animal())
    listing = read(tmp_path)
    found = {entry.id: (entry.category, entry.box) for entry in listing.entries}
    assert found["object/labeled-data/v/0.jpg#mickey"] == ("object", (1, 1, 9, 9))
    assert found["object/labeled-data/v/0.jpg#minnie"] == ("object", (21, 1, 29, 9))
    assert found["single/labeled-data/v/1.jpg#single"] == ("single", (0, 0, 39, 19))
    assert found["object/labeled-data/v/6.jpg#mickey"] == ("object", None)
    assert len(found) == 24 and listing.left_out == {}


def test_two_scorers_of_one_video_are_named(tmp_path):
    project(tmp_path)
    write_rows(tmp_path / "labeled-data" / "v" / "CollectedData_you.csv", dlc_rows(birds()))
    with pytest.raises(UserError, match=r"CollectedData_me\.csv and .*CollectedData_you\.csv: both hold"):
        read(tmp_path)


def test_a_table_of_excel_is_read(tmp_path):
    images(tmp_path, 12, "labeled-data/v")
    text = "\r\n".join(";".join(str(cell).replace(".5", ",5") for cell in row) for row in dlc_rows(birds()))
    text = text.replace(";10;5;", ";10,5;5;")
    (tmp_path / "CollectedData_me.csv").write_text(text, encoding="utf-8-sig")
    assert read(tmp_path).entries[0].points["a"] == (10.5, 5)


def replace(row, column, value):
    def damage(rows):
        rows[row][column] = value

    return damage


DAMAGE = [
    (replace(2, 1, "z"), "the body part a needs a column x and a column y"),
    (replace(2, 3, "z"), "column 4 of the row coords must be x or y, but is 'z'"),
    (replace(2, 2, "x"), "column 3 repeats x of a body part"),
    (replace(1, 1, ""), "column 2 of the row bodyparts needs a name, but is ''"),
    (replace(2, 0, "coordinates"), "DeepLabCut's header needs the rows scorer, bodyparts and coords"),
    (replace(3, 1, "ten"), "line 4: x of a must be a number, but is 'ten'"),
    (replace(3, 1, ""), "line 4: x of a must be a number, but is ''"),
    (replace(3, 0, "labeled-data/v/99.jpg"), "line 4: image: no image 'labeled-data/v/99.jpg' below"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_wrong_cell_is_named(tmp_path, damage, message):
    images(tmp_path, 12, "labeled-data/v")
    rows = dlc_rows(birds())
    damage(rows)
    write_rows(tmp_path / "CollectedData_me.csv", rows)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/CollectedData_me.csv") and "\n" not in str(error.value)


def test_predictions_for_a_video_are_named(tmp_path):
    rows = [["scorer", *["net"] * 3], ["bodyparts", *["a"] * 3], ["coords", "x", "y", "likelihood"], ["0", 1, 2, 0.9]]
    write_rows(tmp_path / "videoDLC_resnet50.csv", rows)
    with pytest.raises(UserError, match=r"videoDLC_resnet50\.csv: DeepLabCut's predictions for a video are not read"):
        read(tmp_path)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 15), st.integers(0, 17), st.text(max_size=6))
def test_any_text_in_any_cell_gives_a_listing_or_one_line(tmp_path_factory, row, column, text):
    root = tmp_path_factory.getbasetemp() / "dlc"
    if not root.exists():
        images(root, 12, "labeled-data/v")
    rows = multi_animal()
    rows[row][column % len(rows[row])] = text
    cells = "\n".join(",".join(f'"{cell}"'.replace('"""', '"') for cell in row) for row in rows)
    listing_or_one_line(root, "CollectedData_me.csv", cells.encode("utf-8", "surrogatepass"))

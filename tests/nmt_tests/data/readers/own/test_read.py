import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run
from nmt.data.prepare.objects import prepare
from nmt.data.readers.base import load
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import config, images, listing_or_one_line, objects, read, write_json
from tests.nmt_tests.data.readers.raw_sets import coco, csv_rows, write_csv, write_image
from tune.cli import train
from tune.cli.configuration import recipe
from tune.cli.job import parse


@pytest.fixture
def table(tmp_path) -> Path:
    """Sixty images of birds in one CSV, no splits."""
    root = tmp_path / "birds"
    write_csv(root, [row for name in images(root) for row in csv_rows(name)])
    return root


def test_the_three_formats_give_the_same_objects(tmp_path, table):
    images(tmp_path / "list")
    images(tmp_path / "coco")
    content = coco(60)
    content["categories"][0]["name"] = "bird"
    write_json(tmp_path / "coco", content, "annotations/birds.json")
    listings = [read(table), read(write_json(tmp_path / "list", objects())), read(tmp_path / "coco")]
    loaded = [{e.photo: (e.split, load(e, size=16).points) for e in listing.entries} for listing in listings]
    assert loaded[0] == loaded[1] == loaded[2] and len(loaded[0]) == 60
    assert loaded[0]["7.jpg"][1] == {"a": (4, 4), "b": (12, 4), "c": (8, 12)}


def test_files_without_keypoints_are_skipped_and_named(table):
    (table / "sizes.csv").write_text("image,w,h\n0.jpg,40,20\n")
    write_json(table, {"bird": 1}, "label_map.json")
    listing = read(table)
    assert len(listing.entries) == 60
    assert "skipped, no keypoints in it: sizes.csv, label_map.json" in listing.notes


def test_the_split_that_each_file_gave_is_noted(tmp_path):
    for split, first in (("train", 0), ("valid", 20)):
        write_csv(tmp_path / split, [row for k in range(first, first + 10) for row in csv_rows(f"{k}.jpg")])
    images(tmp_path, 30)
    listing = read(tmp_path)
    assert Counter(entry.split for entry in listing.entries) == {"train": 10, "val": 10}
    assert listing.notes == [
        "read as a table of keypoints: train/points.csv, valid/points.csv",
        "splits by file name: train from train/points.csv; val from valid/points.csv",
    ]


def test_splits_that_were_made_are_noted(table):
    assert read(table).notes == [
        "splits: none is given; divided within each category: 80 % train, 10 % val, 10 % test, at least two each "
        "where there are enough"
    ]


def test_hidden_files_are_ignored(table):
    expected = [entry.id for entry in read(table).entries]
    for name in ("._points.csv", ".DS_Store", "images/._0.jpg", "._points.json"):
        (table / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        \xb0")
    assert [entry.id for entry in read(table).entries] == expected


def test_a_split_that_is_lost_as_a_whole_is_not_made_anew(tmp_path):
    names = images(tmp_path, 30)
    write_json(tmp_path, [o | {"split": "val" if k < 10 else "train"} for k, o in enumerate(objects(30))])
    for name in names[:10]:
        (tmp_path / "images" / name).unlink()
    with pytest.raises(
        UserError,
        match=r"common keypoints in split val; left out: .*10 unreadable; the first .*: .*no image",
    ):
        read(tmp_path, skip_bad=True)


def test_shares_of_the_sides_are_no_pixels(tmp_path):
    images(tmp_path)
    write_csv(tmp_path, [(i, c, n, x / 40, y / 20) for k in range(60) for i, c, n, x, y in csv_rows(f"{k}.jpg")])
    with pytest.raises(UserError, match=r"points\.csv: all coordinates lie between 0 and 1, but pixels are read"):
        read(tmp_path)


def test_an_unknown_folder_says_what_was_looked_for(tmp_path, table):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no annotations of keypoints; looked for \*\.csv"):
        read(tmp_path / "empty")
    with pytest.raises(UserError, match=r"absent: does not exist"):
        read(tmp_path / "absent")
    with pytest.raises(UserError, match=r"points\.csv: is a file; give the folder that holds it"):
        read(table / "points.csv")
    with pytest.raises(UserError, match=r"points\.json: no keypoints; expected COCO keypoints, or a JSON list"):
        read(write_json(tmp_path / "other", {"points": []}))
    with pytest.raises(UserError, match=r"both points\.csv and points\.json; keep the one"):
        read(write_json(table, []))


def test_annotations_one_folder_deeper_are_pointed_at(table):
    with pytest.raises(UserError, match=rf"but in the folder below, .*points\.csv; give --raw {table}"):
        read(table.parent)


def test_a_spreadsheet_that_is_no_csv_is_named(tmp_path):
    (tmp_path / "Birds.XLSX").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"Birds\.XLSX: a spreadsheet; save its table as CSV"):
        read(tmp_path)


def test_a_category_with_one_object_is_left_out_and_counted(table):
    with (table / "points.csv").open("a") as file:
        file.write("\r\n".join(",".join(map(str, row)) for row in csv_rows("3.jpg", "fish")) + "\r\n")
    listing = read(table)
    assert list(listing.keypoint_names()) == ["bird"]
    assert listing.left_out["no other photograph with 2 common keypoints"] == 1


def test_a_misspelt_name_of_a_published_set_is_hinted_at(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match=r"looked for .* or did you mean --prepare willow\?"):
        prepare(config("wilow"), raw=tmp_path / "raw", out=tmp_path / "out")


def test_own_data_is_prepared_from_the_command_line_and_then_a_recipe(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sets = ["--set", "data.image_size=32", "--set", "data.mode=images"]
    assert run.main(["--prepare", "birds", "--raw", str(table), *sets]) == 0
    assert "bird" in capsys.readouterr().out and (tmp_path / "data/birds/objects.arrow").is_file()
    assert recipe(parse(train.JOB, ["--train", "birds", *sets])).data.name == "birds"
    assert run.main(["--train", "birdz"]) == 2
    assert "no recipe named 'birdz'" in capsys.readouterr().err


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    images(root)
    return root


@settings(deadline=None, max_examples=150)
@given(st.booleans(), st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 6))
def test_any_bytes_of_an_annotation_give_a_listing_or_one_line(fuzzed, as_csv, place, inserted, removed):
    rows = "\n".join(",".join(map(str, row)) for k in range(20) for row in csv_rows(f"{k}.jpg"))
    text = f"image,category,keypoint,x,y\n{rows}\n" if as_csv else json.dumps(coco(20))
    place %= len(text)
    content = text[:place].encode() + inserted + text[place + removed :].encode()
    listing_or_one_line(fuzzed, "points.csv" if as_csv else "points.json", content)


def test_the_folder_of_the_images_alone_names_the_one_above(table):
    with pytest.raises(
        UserError, match=r"images: no annotations in it, but in the folder above, .*points\.csv; give --r"
    ):
        read(table / "images")


def test_a_category_of_which_nothing_is_left_is_named(table):
    with (table / "points.csv").open("a") as file:
        file.write("1.jpg,shark,fin,10,10\n1.jpg,shark,eye,20,20\n2.jpg,eel,fin,10,10\n")
    listing = read(table)
    assert listing.notes[-1].startswith(
        "nothing is left of 'eel', 'shark': in a split, a category needs two photographs"
    )
    assert {entry.category for entry in listing.entries}.isdisjoint({"eel", "shark"})


def test_fewer_than_four_photographs_are_counted(tmp_path):
    write_csv(tmp_path, [row for k in range(3) for row in csv_rows(f"{k}.jpg")])
    images(tmp_path, 3)
    with pytest.raises(
        UserError, match=r"in split val; .*; '\w+' has 3 photographs, and needs 4, two in train and two in val"
    ):
        read(tmp_path)


@pytest.mark.parametrize("damage", ["nothing", "no column", "two splits", "twice", "no image", "two words"])
def test_names_with_line_ends_are_shown_in_one_line(tmp_path, damage):
    root = tmp_path / "my\nbirds"
    names = [write_image(root / f"a\n{k}.jpg").name for k in range(12)]
    found = [item | {"image": name} for item, name in zip(objects(12), names, strict=True)]
    if damage == "two splits":
        found += [found[0] | {"split": "train"}]
    if damage == "no image":
        (root / names[3]).unlink()
    name = "train\nval.json" if damage == "two words" else "points.json"
    if damage == "no column":
        (root / "points.csv").write_text("image,x\n")
    elif damage != "nothing":
        write_json(root, found, name)
    if damage == "twice":
        write_json(root, found, "more\n.json")
    with pytest.raises(UserError) as error:
        read(root)
    assert str(error.value).isprintable() and r"my\nbirds" in str(error.value)

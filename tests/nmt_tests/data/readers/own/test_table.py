import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from nmt.data.prepare.objects import prepare
from nmt.data.readers.own.table import recognises, spelling_notes
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.io.spreadsheet import read_table
from tests.nmt_tests.data.readers.own.own_sets import config, images, read
from tests.nmt_tests.data.readers.raw_sets import SQUARE, csv_rows, write_csv


@pytest.fixture
def table(tmp_path) -> Path:
    """Sixty images of birds in one CSV, no splits."""
    root = tmp_path / "birds"
    write_csv(root, [row for name in images(root) for row in csv_rows(name)])
    return root


def rewrite(table: Path, change, encoding: str = "utf-8") -> Path:
    path = table / "points.csv"
    path.write_bytes(change(path.read_text()).encode(encoding))
    return table


SPREADSHEETS = {
    "semicolons and decimal commas": lambda text: text.replace(",", ";").replace(";5\n", ";5,0\n"),
    "tabs": lambda text: text.replace(",", "\t"),
    "Excel's line": lambda text: "sep=;\n" + text.replace(",", ";"),
    "capitals": lambda text: text.replace("image,category,keypoint,x,y", "Image,CATEGORY,Keypoint,X,Y"),
    "quotes": lambda text: "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.split("\n")),
    "spaces": lambda text: text.replace(",", " , "),
    "blank rows": lambda text: text.replace("5.jpg", "5.jpg").replace("\n", "\n,,,,\n\n"),
    "another order, another column": lambda text: "\n".join(
        ",".join(["note", *reversed(line.split(","))])
        if line.startswith("image")
        else ",".join(["", *reversed(line.split(","))])
        for line in text.split()
    ),
}


@pytest.mark.parametrize("change", SPREADSHEETS.values(), ids=SPREADSHEETS.keys())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheet_programs_are_read(table, change, encoding):
    expected = [(e.id, e.points) for e in read(table).entries]
    assert [(e.id, e.points) for e in read(rewrite(table, change, encoding)).entries] == expected and len(
        expected
    ) == 60


def test_the_extension_may_have_capitals(table):
    (table / "points.csv").rename(table / "POINTS.CSV")
    assert len(read(table).entries) == 60


def test_another_encoding_says_what_to_save_it_as(table):
    rewrite(table, lambda text: text.replace("bird", "Möwe"), "cp1252")
    with pytest.raises(UserError, match=r"points\.csv: not readable CSV .*; save it as UTF-8"):
        read(table)


def test_empty_coordinates_are_not_labelled(table):
    rewrite(table, lambda text: text.replace("0.jpg,bird,a,10,5", "0.jpg,bird,a,,", 1))
    by_photo = {entry.photo: set(entry.points) for entry in read(table).entries}
    assert by_photo["0.jpg"] == {"b", "c"} and by_photo["1.jpg"] == {"a", "b", "c"}


@pytest.mark.parametrize("word", ["NA", "n/a", "NaN", "null", "None"])
def test_words_of_programs_for_no_value_are_not_labelled(table, word):
    rewrite(table, lambda text: text.replace("0.jpg,bird,a,10,5", f"0.jpg,bird,a,{word},{word}", 1))
    listing = read(table)
    assert {entry.photo: len(entry.points) for entry in listing.entries}["0.jpg"] == 2 and not listing.left_out


def test_spellings_of_one_path_are_one_object(table):
    expected = {entry.id: entry.points for entry in read(table).entries}
    for old, new in (("\n0.jpg,bird,a", "\n./0.jpg,bird,a"), ("\n0.jpg,bird,b", "\n.\\0.jpg,bird,b")):
        rewrite(table, lambda text, old=old, new=new: text.replace(old, new))
    assert {entry.id: entry.points for entry in read(table).entries} == expected


def test_columns_that_are_not_read_are_noted(table):
    rewrite(table, lambda text: text.replace("keypoint,x,y", "keypoint,x,y,subset,"))
    assert "columns that are not read: 'subset'" in read(table).notes


def test_composed_and_decomposed_names_are_one(table):
    name = unicodedata.normalize("NFD", "flügel")
    rewrite(table, lambda text: text.replace(",a,", ",flügel,").replace("7.jpg,bird,flügel", f"7.jpg,bird,{name}"))
    assert read(table).keypoint_names() == {"bird": ["b", "c", "flügel"]}


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Train", "valid", "TEST"), ("training", "validation", "testing")]
)
def test_a_column_of_splits_is_read(tmp_path, words):
    names = images(tmp_path)
    splits = [words[2] if k < 20 else words[1] if k < 30 else words[0] for k in range(60)]
    rows = [row for name, split in zip(names, splits, strict=True) for row in csv_rows(name, "bird", SQUARE, split)]
    write_csv(tmp_path, rows, "image,category,keypoint,x,y,split")
    assert Counter(e.split for e in read(tmp_path).entries) == {"train": 30, "val": 10, "test": 20}


def test_a_split_in_some_rows_of_an_image_names_both_lines(tmp_path):
    rows = [row for name in images(tmp_path) for row in csv_rows(name, "bird", SQUARE, "train")]
    rows[4] = (*rows[4][:5], "")
    write_csv(tmp_path, rows, "image,category,keypoint,x,y,split")
    with pytest.raises(
        UserError, match=r"points\.csv, line 6: 1\.jpg has train and no split \(see line 5\); write one"
    ):
        read(tmp_path)


DAMAGE = [
    ("1.jpg,bird,a,10,5", "1.jpg,bird,a,ten,5", r"line 5: x must be a number, but is 'ten'"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,a,10", "line 5: fewer columns than the first line names"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,a,10,", "line 5: y must be a number, but is ''"),
    ("1.jpg,bird,a,10,5", '1.jpg,bird,a,"1,5",5', "line 5: x must be a number, but is '1,5'"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,,10,5", "line 5: a keypoint needs a name"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,a\u00a0b,10,5", r"line 5: a keypoint: .*cannot be printed \(U\+00A0\)"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,b,10,5", r"line 6: b of 1\.jpg is labelled twice; a table holds one object"),
    ("0.jpg,bird", "../0.jpg,bird", "image must lie in the folder itself, but is '../0.jpg'"),
    ("0.jpg,bird", "/etc/0.jpg,bird", "image must lie in the folder itself"),
    ("0.jpg,bird", ",bird", "line 2: image must be the name of a file"),
    ("0.jpg,bird", "zero.jpg,bird", r"line 2: image: no image 'zero\.jpg' below"),
    ("0.jpg,bird", "0.jpg,a/b", "line 2: category must be a name without / and .*, but is 'a/b'"),
    ("0.jpg,bird", "0.jpg,", "line 2: category needs a name, but is ''"),
    ("image,category", "file,category", "no column image; the first line names them: image,category,keypoint,x,y"),
    ("image,category", "file,category", "keypoint,x,y, but holds 'file, category, keypoint, x, y'$"),
    ("keypoint,x,y", "keypoint,x,x,y", "the first line names the column x twice"),
]


@pytest.mark.parametrize(("old", "new", "message"), DAMAGE)
def test_a_wrong_line_of_a_table_is_named(table, old, new, message):
    rewrite(table, lambda text: text.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        read(table)
    assert str(error.value).startswith(str(table / "points.csv")) and "\n" not in str(error.value)


def test_another_table_is_not_recognised(tmp_path):
    (tmp_path / "sizes.csv").write_text("image,w,h\n0.jpg,1,2\n")
    assert not recognises(read_table(tmp_path / "sizes.csv")) and not recognises({"images": []})


def test_names_that_differ_in_case_alone_are_noted(table):
    rewrite(table, lambda text: text.replace("8.jpg,bird,a", "8.jpg,bird,A"))
    assert "keypoints of bird: A, a differ in case or spaces alone; are they one?" in read(table).notes
    assert spelling_notes({"Bird": ["a"], "bird": ["a"]}) == [
        "categories: Bird, bird differ in case or spaces alone; are they one?"
    ]
    assert spelling_notes({"bird": ["left wing", "leftwing", "beak"], "cat": ["beak"]}) == [
        "keypoints of bird: left wing, leftwing differ in case or spaces alone; are they one?"
    ]


def test_mirrored_names_are_read_from_their_own_file(table, tmp_path):
    (table / "mirror.csv").write_text("Category;Left;Right\nbird;a;b\n")
    prepare(config(), raw=table, out=tmp_path / "out")
    store = ObjectStore.open(tmp_path / "out")
    assert store.info.mirror == {"bird": {"a": "b", "b": "a"}} and store.mirror(0).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("brid,a,b", "no category 'brid'; did you mean 'bird'"),
        ("bird,a,z", "no keypoint 'z'"),
        ("bird,a,a", "a of bird is listed twice"),
    ],
)
def test_a_wrong_mirrored_name_is_one_line(table, line, message):
    (table / "mirror.csv").write_text(f"category,left,right\n{line}\n")
    with pytest.raises(UserError, match=f"mirror.csv, line 2: {message}"):
        read(table)

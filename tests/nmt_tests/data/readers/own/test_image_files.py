import unicodedata
from pathlib import Path

import pytest

from nmt.data.readers.own.image_files import ImageFiles, relative_name
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import write_image


def find(raw: Path, name: object, beside: str = "points.csv", folders: tuple[str, ...] = ()) -> tuple[str, str]:
    photo, path = ImageFiles(raw).find(name, "here", beside=raw / beside, folders=folders)
    return photo, path.relative_to(raw).as_posix()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("images/a.jpg", "a.jpg"),
        ("images/a.jpg", "images/a.jpg"),
        ("images/a.jpg", "images\\a.jpg"),
        ("images/a.jpg", "./a.jpg"),
        ("images/a.JPG", "a.jpg"),
        ("images/A.jpg", "a.JPG"),
        ("images/birds/a.jpg", "birds/a.jpg"),
        ("images/birds/a.jpg", "a.jpg"),
        ("photos/deep/a.jpg", "a.jpg"),
        ("a.jpg", "a.jpg"),
        ("data/a.jpg", "a.jpg"),
        (f"images/{unicodedata.normalize('NFD', 'vögel')}.jpg", unicodedata.normalize("NFC", "vögel.jpg")),
        (f"images/{unicodedata.normalize('NFC', 'vögel')}.jpg", unicodedata.normalize("NFD", "vögel.jpg")),
    ],
)
def test_a_name_finds_its_file(tmp_path, file, name):
    write_image(tmp_path / file)
    photo, found = find(tmp_path, name)
    assert found == file and photo == unicodedata.normalize("NFC", file).removeprefix("images/")


def test_images_of_the_annotation_file_come_first(tmp_path):
    for file in ("a.jpg", "images/a.jpg", "train2017/a.jpg", "val/a.jpg", "valid/a.jpg"):
        write_image(tmp_path / file)
    assert find(tmp_path, "a.jpg", "annotations/person_keypoints_train2017.json") == ("train2017/a.jpg",) * 2
    assert find(tmp_path, "a.jpg", "valid/_annotations.coco.json") == ("valid/a.jpg",) * 2
    assert find(tmp_path, "a.jpg", "annotations/birds.json", ("val",)) == ("val/a.jpg",) * 2
    assert find(tmp_path, "a.jpg") == ("a.jpg", "images/a.jpg")


def test_a_bare_name_of_several_files_is_refused(tmp_path):
    for file in ("one/a.jpg", "two/a.jpg"):
        write_image(tmp_path / file)
    with pytest.raises(UserError, match="^here: 'a.jpg' may be one/a.jpg, two/a.jpg; write the folder too"):
        find(tmp_path, "a.jpg")


def test_a_name_with_a_folder_is_never_taken_from_another(tmp_path):
    write_image(tmp_path / "images/two/a.jpg")
    with pytest.raises(UserError, match=r"no image 'one/a\.jpg' below .*; there is 'two/a\.jpg'"):
        find(tmp_path, "one/a.jpg")


@pytest.mark.parametrize("name", ["a", "a.png", "a.jpeg", "./a"])
def test_a_name_with_another_extension_is_hinted_at(tmp_path, name):
    write_image(tmp_path / "images/a.jpg")
    with pytest.raises(UserError, match=r"no image .*; there is 'a\.jpg': if it is meant, write the name as it is"):
        find(tmp_path, name)


def test_hidden_files_are_never_found(tmp_path):
    write_image(tmp_path / "images/.thumbs/a.jpg")
    write_image(tmp_path / "images/__MACOSX/a.jpg")
    with pytest.raises(UserError, match="no image 'a.jpg' below"):
        find(tmp_path, "a.jpg")


@pytest.mark.parametrize("name", ["images/a.jpg", "A.jpg", "a.JPG"])
def test_one_photograph_under_two_spellings_is_refused(tmp_path, name):
    write_image(tmp_path / "images/a.jpg")
    files = ImageFiles(tmp_path)
    for _ in range(2):
        files.find("a.jpg", "first", beside=tmp_path / "points.csv")
    with pytest.raises(UserError, match=rf"^second: '{name}' and 'a\.jpg' are one photograph, .*images/a\.jpg"):
        files.find(name, "second", beside=tmp_path / "points.csv")


def test_a_link_that_leads_nowhere_is_not_replaced_by_another_file(tmp_path):
    write_image(tmp_path / "store/a.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").symlink_to("a.jpg")
    assert find(tmp_path, "a.jpg")[1] == "images/a.jpg"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../a.jpg", "must lie in the folder itself"),
        ("..\\a.jpg", "must lie in the folder itself"),
        ("/etc/passwd", "must lie in the folder itself"),
        (".", "must lie in the folder itself"),
        ("", "must be the name of a file"),
        ("a\0.jpg", "must be the name of a file"),
        (None, "must be the name of a file, but is missing"),
        (3, "must be the name of a file, but is 3"),
        ("https://host/a.jpg?token=b", "is an address, .*; download the images"),
        ("s3://bucket/a.jpg", "is an address"),
        ("鳥" * 200, "no image"),
        ("\ud83d.jpg", "no image"),
    ],
)
def test_other_names_are_one_line(tmp_path, name, message):
    with pytest.raises(UserError, match=f"^here:? ?{message}") as error:
        find(tmp_path, name)
    str(error.value).encode()
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_relative_names_are_composed_and_have_slashes():
    assert relative_name(unicodedata.normalize("NFD", "vögel\\a.jpg"), "here") == "vögel/a.jpg"

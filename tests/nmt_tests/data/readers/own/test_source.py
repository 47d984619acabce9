import pytest

from nmt.data.readers.own.image_files import ImageFiles
from nmt.data.readers.own.source import Source
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import write_image


def test_an_object_has_its_own_split_or_that_of_its_file(tmp_path):
    source = Source(tmp_path / "train.csv", None, ImageFiles(tmp_path), "train")
    assert [source.read_split(value, "here") for value in ("", None, "Val")] == ["train", "train", "val"]
    assert source.splits_seen == {"train", "val"}
    with pytest.raises(UserError, match="^here: no split 'vla'; known: test, train, val"):
        source.read_split("vla", "here")


def test_images_of_the_split_are_preferred(tmp_path):
    for folder in ("train", "valid", "images"):
        write_image(tmp_path / folder / "a.jpg")
    for split, folder in (("train", "train"), ("val", "valid"), ("", "images")):
        source = Source(tmp_path / "annotations" / "birds.json", None, ImageFiles(tmp_path), split)
        assert source.image("a.jpg", "here")[1] == tmp_path / folder / "a.jpg"


def test_an_image_that_is_missing_is_not_replaced_by_another_of_its_name(tmp_path):
    for name in ("train/a.jpg", "valid/B.jpg", "video/deep/c.jpg", "valid/deep/d.jpg"):
        write_image(tmp_path / name)
    found = ImageFiles(tmp_path)
    root = Source(tmp_path / "birds.json", None, found)
    assert root.first_image(["other/c.jpg", "c.jpg"], "here")[0] == "video/deep/c.jpg"
    for names in (["valid/a.jpg", "a.jpg"], ["images/x.jpg", "valid/a.jpg", "a.jpg"]):
        with pytest.raises(UserError, match="^here: no image '(valid/a|images/x).jpg' below"):
            root.first_image(names, "here")
    for source in (Source(tmp_path / "valid" / "a.json", None, found), Source(tmp_path / "v.csv", None, found, "val")):
        assert source.image("b.jpg", "here")[0] == "valid/B.jpg"
        assert source.image("d.jpg", "here")[0] == "valid/deep/d.jpg"
        with pytest.raises(UserError, match="^here: no image 'a.jpg' below"):
            source.image("a.jpg", "here")

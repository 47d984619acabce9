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

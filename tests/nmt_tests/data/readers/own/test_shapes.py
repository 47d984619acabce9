import pytest

from nmt.data.readers.base import EMPTY_BOX, Entry, Excluded
from nmt.data.readers.own.image_files import ImageFiles
from nmt.data.readers.own.shapes import Picture, Shape, Tool, entries
from nmt.data.readers.own.source import NO_KEYPOINTS, UNLABELLED, Source
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import SQUARE, write_image

TOOL = Tool("Tool", "group them")


@pytest.fixture
def source(tmp_path):
    write_image(tmp_path / "a.jpg")
    return Source(tmp_path / "a.json", None, ImageFiles(tmp_path))


def points(group="", dx=0):
    return [Shape(name, [(x + dx, y)], True, group) for name, (x, y) in SQUARE.items()]


def area(label, *corners, group=""):
    return Shape(label, corners, False, group)


def made(source, *shapes, **more) -> list[Entry]:
    picture = Picture("here", ["b.jpg", "a.jpg"], shapes, (40, 20), **more)
    return [make() for make in entries(source, TOOL, lambda: picture)]


def test_an_object_alone_is_the_whole_image_and_several_are_cut_out_at_their_keypoints(source):
    (alone,) = made(source, *points(), split="Val")
    assert (alone.id, alone.category, alone.split, alone.box) == ("object/a.jpg", "object", "val", None)
    assert source.notes == ["Tool: objects without a category have the category object"]
    one, two = made(source, *points("1"), *points("2", dx=5))
    assert (one.id, one.box, two.id, two.box) == ("object/a.jpg#1", (10, 5, 30, 15), "object/a.jpg#2", (15, 5, 35, 15))
    assert source.notes[1:] == ["Tool: objects without a box, several in an image, are cut out at their keypoints"]


def test_a_category_without_corners_is_no_extent(source):
    (alone,) = made(source, *points("1"), area("bird", group="1"))
    assert (alone.category, alone.box) == ("bird", None) and source.notes == []


def test_several_boxes_of_an_object_are_one_of_one_label(source):
    (entry,) = made(source, *points("1"), area("bird", (0, 8), (12, 2), group="1"), area("bird", (9, 9), group="1"))
    assert entry.box == (0, 2, 30, 15)
    with pytest.raises(
        UserError, match="here: group '1': its boxes have several labels, bird, fish; an object has one"
    ):
        made(source, *points("1"), area("bird", (0, 8), group="1"), area("fish", (9, 9), group="1"))


def test_a_keypoint_twice_says_how_the_tool_tells_objects_apart(source):
    with pytest.raises(UserError, match="^here: the keypoint a is labelled twice; group them$"):
        made(source, *points(), *points())


def test_what_is_left_out_says_why(source):
    one_keypoint = points()[:1]
    for shapes, reason in (
        ((), NO_KEYPOINTS),
        ((area("bird", (0, 0), (9, 9)),), UNLABELLED),
        (one_keypoint, "fewer than 2 keypoints"),
        ((*points(), area("bird", (3, 3), (3, 9))), EMPTY_BOX),
    ):
        with pytest.raises(Excluded, match=reason):
            made(source, *shapes)


def test_damage_to_an_image_is_raised_where_its_objects_are_made(source):
    def parse():
        raise UserError("damaged")

    (make,) = entries(source, TOOL, parse)
    with pytest.raises(UserError, match="^damaged$"):
        make()

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.readers.own.cvat import NAME
from nmt.data.readers.own.source import NO_KEYPOINTS
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import images, listing_or_one_line, read
from tests.nmt_tests.data.readers.own.tools import birds, cvat, cvat_points, write_cvat
from tests.nmt_tests.data.readers.raw_sets import SQUARE


def points(dx=0, **attributes):
    return "".join(cvat_points(name, (x + dx, y), **attributes) for name, (x, y) in SQUARE.items())


def skeleton(dx=0, label="bird", outside=""):
    inner = points(dx).replace(f'label="{outside}"', f'label="{outside}" outside="1"')
    return f'<skeleton label="{label}" z_order="0">{inner}</skeleton>'


BOX = '<box label="bird" xtl="8" ytl="2" xbr="32" ybr="12" group_id="{}"/>'
POLYGON = '<polygon label="bird" points="8,2;32,2;20,12"/>'


def write(root, shapes, num=12):
    images(root, num)
    (root / "annotations.xml").write_text(cvat({f"{k}.jpg": shapes for k in range(num)}))
    return root


def found(root, **options):
    return {entry.id: (entry.category, entry.box, set(entry.points)) for entry in read(root, **options).entries}


def test_points_without_a_box_are_one_object_of_the_whole_image(tmp_path):
    images(tmp_path, 12, "images/default")
    listing = read(write_cvat(tmp_path, birds()))
    entry = listing.entries[0]
    assert (entry.category, entry.box, entry.size, entry.points) == ("object", None, (40, 20), SQUARE)
    assert f"{NAME}: objects without a category have the category object" in listing.notes


def test_skeletons_are_objects_without_their_points_outside(tmp_path):
    one = found(write(tmp_path / "one", skeleton(outside="b")))
    assert one["bird/0.jpg#skeleton 0"] == ("bird", None, {"a", "c"})
    two = found(write(tmp_path / "two", skeleton() + skeleton(5, "fish")))
    assert two["bird/0.jpg#skeleton 0"] == ("bird", (10, 5, 30, 15), {"a", "b", "c"})
    assert two["fish/0.jpg#skeleton 1"] == ("fish", (15, 5, 35, 15), {"a", "b", "c"})


def test_a_box_or_polygon_of_the_group_gives_category_and_extent(tmp_path):
    grouped = points(group_id=3) + BOX.format(3) + points(5, group_id=4) + '<tag label="day"/>'
    objects = found(write(tmp_path / "grouped", grouped))
    assert objects["bird/0.jpg#3"][:2] == ("bird", (8, 2, 32, 15))
    assert objects["object/0.jpg#4"][:2] == ("object", (15, 5, 35, 15))
    annotated = {entry.id: entry.object_box for entry in read(tmp_path / "grouped").entries}
    assert annotated["bird/0.jpg#3"] == (8, 2, 32, 12) and annotated["object/0.jpg#4"] is None
    for k, box in enumerate((BOX.format(0), POLYGON)):
        assert found(write(tmp_path / str(k), points() + box), clip_to_box=True)["bird/0.jpg"][1] == (8, 2, 32, 12)


def test_subsets_are_splits(tmp_path):
    root = write(tmp_path, skeleton())
    text = (root / "annotations.xml").read_text()
    for k in range(12):
        subset = ("Train", "Validation", "default")[k % 3 if k > 8 else k % 2]
        text = text.replace(f'name="{k}.jpg"', f'name="{k}.jpg" subset="{subset}"')
    (root / "annotations.xml").write_text(text)
    splits = {entry.photo: entry.split for entry in read(root).entries}
    assert (splits["0.jpg"], splits["1.jpg"]) == ("train", "val") and splits["11.jpg"] in ("train", "val", "test")


def test_images_without_shapes_are_counted(tmp_path):
    images(tmp_path, 13)
    shapes = {f"{k}.jpg": skeleton() for k in range(12)} | {"12.jpg": ""}
    (tmp_path / "annotations.xml").write_text(cvat(shapes))
    assert read(tmp_path).left_out == {NO_KEYPOINTS: 1}


def test_videos_are_named_with_the_export_to_choose(tmp_path):
    (tmp_path / "annotations.xml").write_text('<annotations><track id="0" label="bird"/></annotations>')
    with pytest.raises(
        UserError, match=r"annotations\.xml: CVAT for video is not read; export COCO keypoints, or CVAT"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            '<points label="a" points="1,2;3,4"/>',
            "image '0.jpg': points 0: 2 points share the label 'a'; use a skeleton",
        ),
        ('<points label="a" points="1,x"/>', "image '0.jpg': points 0: y must be a number, but is 'x'"),
        ('<points label="a" points=""/>', "image '0.jpg': points 0: points must be pairs x,y, but is ''"),
        (
            '<points points="1,2"/><points label="b" points="1,2"/>',
            "image '0.jpg': a keypoint needs a name, but is missing",
        ),
        (points() + points(), "the keypoint a is labelled twice"),
        (points(group_id=1) + BOX.format(1).replace('"8"', '"left"'), "box 3: xtl must be a number, but is 'left'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, shapes, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read(write(tmp_path, shapes))
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**4), st.text(st.characters(codec="utf-8"), max_size=6), st.integers(0, 6))
def test_any_text_anywhere_gives_a_listing_or_one_line(tmp_path_factory, place, inserted, removed):
    root = tmp_path_factory.getbasetemp() / "cvat"
    if not root.exists():
        images(root, 12)
    text = cvat({f"{k}.jpg": skeleton() + points(group_id=3) + BOX.format(3) for k in range(12)})
    place %= len(text)
    listing_or_one_line(root, "annotations.xml", (text[:place] + inserted + text[place + removed :]).encode())


def test_images_of_equal_names_lie_in_the_folders_of_their_subsets(tmp_path):
    subsets = {"Train": "train", "Validation": "val"}
    content = ""
    for subset in subsets:
        names = images(tmp_path, 12, f"images/{subset}")
        content += (
            cvat({name: skeleton() for name in names})
            .partition("<annotations>")[2]
            .partition("</annotations>")[0]
            .replace("<image ", f'<image subset="{subset}" ')
        )
    (tmp_path / "annotations.xml").write_text(f"<annotations>{content}</annotations>")
    listing = read(tmp_path)
    assert {(entry.image.parent.name, entry.split) for entry in listing.entries} == {*subsets.items()}
    assert len(listing.entries) == 24

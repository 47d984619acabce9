import json

import pytest
from hypothesis import given, settings

from nmt.data.readers.own.labelme import NAME, recognises
from nmt.data.readers.own.source import NO_KEYPOINTS, UNLABELLED
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import images, listing_or_one_line, read
from tests.nmt_tests.data.readers.own.tools import (
    STEPS,
    VALUES,
    birds,
    dump,
    labelme,
    labelme_shape,
    replaced,
    write_labelme,
)
from tests.nmt_tests.data.readers.raw_sets import SQUARE, write_image

NOTE = f"{NAME}: objects without a category have the category object"


def points(group=None, dx=0):
    return [labelme_shape(name, [(x + dx, y)], group=group) for name, (x, y) in SQUARE.items()]


@pytest.mark.parametrize(
    ("folder", "of_images", "prefix"),
    [
        ("", "", ""),
        ("", "images", "images\\"),
        ("images", "images", ""),
        ("annotations", "images", "..\\images\\"),
        ("annotations", "images", "../images/"),
        ("annotations", "images", ""),
        ("labels/2024", "pictures/2024", "C:\\Users\\me\\pictures\\"),
        ("labels/2024", "pictures/2024", "../../../outside/"),
        ("labels/2024", "pictures/2024", "/home/me/"),
    ],
)
def test_files_and_their_images_are_found_in_any_folder(tmp_path, folder, of_images, prefix):
    images(tmp_path, 12, of_images)
    listing = read(write_labelme(tmp_path, birds(), folder, prefix))
    assert len(listing.entries) == 12 and len(listing.files) == 12 and NOTE in listing.notes
    entry = listing.entries[0]
    assert entry.image == tmp_path / of_images / "0.jpg" and entry.size == (40, 20) and entry.box is None
    assert entry.category == "object" and entry.points == SQUARE


@pytest.mark.parametrize("layout", ["{}", "{}/images", "images/{}"])
def test_the_split_is_that_of_the_folders_never_of_the_names_of_images(tmp_path, layout):
    for split in ("train", "val"):
        for k in range(4):
            name = f"test-{k}.jpg"
            write_image(tmp_path / layout.format(split) / name)
            dump(tmp_path / split / "json" / f"test-{k}.json", labelme(name))
    listing = read(tmp_path)
    assert len(listing.entries) == 8 and {entry.split for entry in listing.entries} == {"train", "val"}
    assert all(entry.split in entry.image.parts for entry in listing.entries)


def test_shapes_of_a_group_are_one_object_with_category_and_box(tmp_path):
    for name in images(tmp_path, 12, ""):
        boxes = [
            labelme_shape("bird", [(8, 2), (32, 12)], "rectangle", 1),
            labelme_shape("bird", [(10, 2), (12, 3), (11, 4)], "polygon", 1),
            labelme_shape("fish", [(30, 10), (30, 15)], "circle", "left"),
            labelme_shape("road", [(0, 0), (9, 9)], "linestrip", 1),
        ]
        shapes = [*boxes, *points(group=1), *points("left", dx=5)]
        dump(tmp_path / f"{name[:-4]}.json", labelme(name, shapes=shapes))
    listing = read(tmp_path)
    found = {entry.id: (entry.category, entry.box, entry.points["a"]) for entry in listing.entries}
    assert found["bird/0.jpg#1"] == ("bird", (8, 2, 32, 15), (10, 5))
    assert found["fish/0.jpg#left"] == ("fish", (15, 5, 35, 15), (15, 5))
    assert {entry.box for entry in read(tmp_path, clip_to_box=True).entries} == {(8, 2, 32, 12), (25, 5, 35, 15)}
    assert NOTE not in listing.notes


def test_images_and_groups_without_keypoints_are_counted(tmp_path):
    images(tmp_path, 14, "")
    write_labelme(tmp_path, birds(12))
    dump(tmp_path / "12.json", labelme("12.jpg", {}))
    dump(tmp_path / "13.json", labelme("13.jpg", shapes=[labelme_shape("bird", [(0, 0), (9, 9)], "rectangle")]))
    assert read(tmp_path).left_out == {NO_KEYPOINTS: 1, UNLABELLED: 1}


def test_a_file_about_one_image_twice_is_named_with_the_other(tmp_path):
    images(tmp_path, 12)
    write_labelme(tmp_path, birds())
    dump(tmp_path / "annotations" / "0.json", labelme("../images/0.jpg"))
    with pytest.raises(
        UserError, match=r"/0\.json and .*annotations/0\.json: both hold the object 'object/0\.jpg'; keep"
    ):
        read(tmp_path)


def test_files_with_shapes_and_another_key_are_recognised():
    assert recognises(labelme("0.jpg")) and recognises({"shapes": 3, "imageHeight": 20})
    assert not recognises({"shapes": []}) and not recognises([]) and not recognises({"imagePath": "0.jpg"})


def shape(**values):
    return lambda content: content["shapes"][0].update(values)


DAMAGE = [
    (lambda c: c.update(imagePath=None), r"0\.json: image must be the name of a file, but is missing"),
    (lambda c: c.pop("imagePath"), r"0\.json: image must be the name of a file, but is missing"),
    (lambda c: c.update(imagePath="x.jpg"), r"0\.json: image: no image 'x\.jpg' below"),
    (lambda c: c.update(shapes={}), r"0\.json: shapes must be a list"),
    (
        lambda c: c["shapes"].append(c["shapes"][0]),
        "the keypoint a is labelled twice; give the shapes of each object a group_id",
    ),
    (shape(points=[[1, 2], [3, 4]]), r"0\.json: shapes\[0\]: a point must have one pair x, y, but has 2"),
    (shape(points=[["x", 2]]), r"shapes\[0\]: points must be a number, but is 'x'"),
    (shape(points=[], shape_type="polygon"), r"shapes\[0\]: points must hold at least one pair"),
    (shape(label=""), r"0\.json: a keypoint needs a name"),
    (shape(group_id=[1]), r"shapes\[0\]: group_id must be a number, but is \[1\]"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_wrong_value_is_named_or_counted_once(tmp_path, damage, message):
    images(tmp_path, 12, "")
    write_labelme(tmp_path, birds())
    content = labelme("0.jpg")
    damage(content)
    dump(tmp_path / "0.json", content)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
    assert read(tmp_path, skip_bad=True).left_out == {"unreadable": 1}


@settings(deadline=None, max_examples=100)
@given(STEPS, VALUES)
def test_any_value_anywhere_gives_a_listing_or_one_line(tmp_path_factory, steps, value):
    root = tmp_path_factory.getbasetemp() / "labelme"
    if not root.exists():
        images(root, 12, "")
        write_labelme(root, birds())
        (root / "0.json").unlink()
    boxes = [labelme_shape("bird", [(8, 2), (32, 12)], "rectangle", 1), *points(group=1)]
    content = replaced(labelme("0.jpg", shapes=boxes), steps, value)
    listing_or_one_line(root, "0.json", json.dumps(content).encode())

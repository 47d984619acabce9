import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings

from nmt.data.prepare.objects import prepare
from nmt.data.readers.base import EMPTY_BOX, NOT_FINITE, OUTSIDE_BOX, UNREADABLE, load
from nmt.data.readers.own.coco import CROWD, has_keypoints, recognises
from nmt.data.readers.own.source import UNLABELLED
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import config, images, listing_or_one_line, read, write_json
from tests.nmt_tests.data.readers.own.tools import STEPS, VALUES, replaced
from tests.nmt_tests.data.readers.raw_sets import SQUARE, coco, write_image
from tests.paths import SHARED

MINI = SHARED / "data" / "coco_mini"
FEW = "fewer than 2 keypoints"


def by_photo(root: Path, **options):
    return {entry.photo: entry for entry in read(root, **options).entries}


def coco_split(root: Path, split: str, num: int = 10, folder: str = "", file: str = "") -> None:
    """A file of annotations, and its images in a folder of its own."""
    images(root, num, folder or f"{split}2017")
    write_json(root, coco(num), file or f"annotations/person_keypoints_{split}2017.json")


def test_files_are_split_by_their_names_and_equal_names_of_images_are_two_photographs(tmp_path):
    for split in ("train", "val"):
        coco_split(tmp_path, split)
    listing = read(tmp_path)
    assert Counter(entry.split for entry in listing.entries) == {"train": 10, "val": 10}
    assert {(entry.split, entry.image.parent.name) for entry in listing.entries} == {
        ("train", "train2017"),
        ("val", "val2017"),
    }


def test_the_folder_of_roboflow(tmp_path):
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        coco_split(tmp_path, split, folder=folder, file=f"{folder}/_annotations.coco.json")
    parent = {"id": 0, "name": "birds", "supercategory": "none"}
    for file in tmp_path.glob("*/_annotations.coco.json"):
        content = json.loads(file.read_text())
        content["categories"].insert(0, parent)
        file.write_text(json.dumps(content))
    assert Counter(entry.split for entry in read(tmp_path).entries) == {"train": 10, "val": 10, "test": 10}


def test_the_folder_of_cvat(tmp_path):
    content = coco(20)
    content["categories"].append({"id": 2, "name": "person_bbox", "keypoints": [], "skeleton": []})
    content["annotations"].append({"id": 1, "image_id": 0, "category_id": 2, "bbox": [0, 0, 40, 20]})
    content["annotations"].append(content["annotations"][-1] | {"id": 2, "keypoints": [0, 0, 0], "num_keypoints": 0})
    images(tmp_path, 20, "images/default")
    listing = read(write_json(tmp_path, content, "annotations/person_keypoints_default.json"))
    assert len(listing.entries) == 20 and listing.left_out == {UNLABELLED: 2}


@pytest.mark.parametrize(
    "name",
    [
        "..\\..\\label-studio\\media\\upload\\4\\{}",
        "/label-studio/data/media/upload/4/5f3a9c1e-{}",
        "data/upload/1/{}",
        "/data/local-files/?d=some/dir/{}",
        "images/{}",
        "./{}",
    ],
)
def test_names_of_images_as_tools_write_them(tmp_path, name):
    images(tmp_path, 12)
    content = coco(12)
    for image in content["images"]:
        image["file_name"] = name.format(image["file_name"])
    assert set(by_photo(write_json(tmp_path, content))) == {f"{k}.jpg" for k in range(12)}


def test_an_address_is_refused(tmp_path):
    images(tmp_path, 12)
    content = coco(12)
    content["images"][0]["file_name"] = "https://bucket/0.jpg?X-Amz-Security-Token=" + "A" * 400
    with pytest.raises(UserError, match=r"annotation 100: file_name of its image is an address, .*; download the"):
        read(write_json(tmp_path, content))


def test_objects_are_cut_out_at_a_box_that_holds_their_keypoints(tmp_path):
    images(tmp_path)
    content = coco(60)
    first, second, crowd, plain, zeros, empty = content["annotations"][:6]
    first["bbox"] = [10, 5, 10, 10]
    second["keypoints"][2], second["bbox"] = 0, None
    crowd["iscrowd"] = 1
    del plain["keypoints"]
    zeros["bbox"], empty["bbox"] = [0, 0, 0, 0], []
    root = write_json(tmp_path, content)
    assert read(root).left_out == {CROWD: 1, UNLABELLED: 1}
    found, clipped = by_photo(root), by_photo(root, clip_to_box=True)
    assert found["0.jpg"].box == (10, 5, 30, 15) and set(found["0.jpg"].points) == set(SQUARE)
    assert clipped["0.jpg"].box == (10, 5, 20, 15) and set(clipped["0.jpg"].points) == {"a", "c"}
    assert load(found["0.jpg"], size=40).points == {"a": (0, 0), "b": (40, 0), "c": (20, 40)}
    assert load(found["1.jpg"], size=40).points == {"b": (30, 10), "c": (20, 30)}
    assert found["4.jpg"].box == (10, 5, 30, 15) and found["5.jpg"].box is None
    assert {key: entry.object_box for key, entry in found.items() if key in ("0.jpg", "1.jpg", "4.jpg", "5.jpg")} == {
        "0.jpg": (10, 5, 20, 15), "1.jpg": None, "4.jpg": None, "5.jpg": None
    }  # fmt: skip
    large = load(found["0.jpg"], size=40)
    assert (large.shown, large.box) == ((20, 10), (10, 10))


def test_unlabelled_keypoints_are_known_by_v_not_by_their_number(tmp_path):
    images(tmp_path, 20)
    content = coco(20)
    content["annotations"][0] |= {"keypoints": [5, 5, 0] * 3, "num_keypoints": 3}
    content["annotations"][1] |= {"keypoints": [0, 0, 0] * 3, "num_keypoints": 0, "category_id": 9}
    content["annotations"][2]["num_keypoints"] = 0
    content["annotations"][3]["keypoints"][5::3] = [0, 0]
    listing = read(write_json(tmp_path, content))
    assert listing.left_out == {UNLABELLED: 2, FEW: 1} and len(listing.entries) == 17


def test_an_object_with_one_keypoint_needs_no_image(tmp_path):
    images(tmp_path, 20)
    content = coco(20)
    content["annotations"][3]["keypoints"][5::3] = [0, 0]
    (tmp_path / "images" / "3.jpg").unlink()
    assert read(write_json(tmp_path, content)).left_out == {FEW: 1}


def test_more_keys_and_other_types_of_ids_are_read(tmp_path):
    images(tmp_path, 20)
    content = coco(20)
    for k, found in enumerate(content["annotations"]):
        found |= {"foot_kpts": [0.0] * 18, "face_valid": False, "segmentation": {"counts": "abc", "size": [20, 40]}}
        found["image_id"] = (str, float, int)[k % 3](found["image_id"])
        found["category_id"] = (1, "1", 1.0)[k % 3]
    content |= {"info": {"version": 1}, "licenses": []}
    assert len(read(write_json(tmp_path, content)).entries) == 20


def test_files_without_keypoints_are_skipped_and_named(tmp_path):
    for split in ("train", "val"):
        coco_split(tmp_path, split)
    captions = {"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}
    instances = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    unlabelled = {"images": coco(2)["images"], "categories": coco(2)["categories"]}
    for name, content in (("captions", captions), ("instances", instances), ("image_info", unlabelled)):
        write_json(tmp_path, content, f"annotations/{name}_train2017.json")
        assert recognises(content) and not has_keypoints(content)
    names = (f"annotations/{name}_train2017.json" for name in ("captions", "image_info", "instances"))
    assert f"skipped, no keypoints in it: {', '.join(names)}" in read(tmp_path).notes


def test_images_without_annotations_alone_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"test\.json: it has images, but no annotations"):
        read(write_json(tmp_path, {"images": [], "categories": coco(1)["categories"]}, "test.json"))


def test_ids_may_repeat_in_another_file_about_other_photographs(tmp_path):
    for part in ("a", "b"):
        images(tmp_path, 12, part)
        content = coco(12)
        for image in content["images"]:
            image["file_name"] = f"{part}/{image['file_name']}"
        write_json(tmp_path, content, f"{part}.json")
    assert len({entry.id for entry in read(tmp_path).entries}) == 24


@pytest.mark.parametrize("first", [100, 500])
def test_two_files_with_the_same_objects_are_named_whatever_their_ids(tmp_path, first):
    images(tmp_path, 12)
    content = coco(12)
    write_json(tmp_path, content)
    for k, found in enumerate(content["annotations"]):
        found["id"] = first + k
    write_json(tmp_path, content, "points_backup.json")
    with pytest.raises(UserError, match=r"points\.json and .*points_backup\.json: both hold .*; keep one of the two"):
        read(tmp_path, skip_bad=True)


def test_the_three_splits_of_ap10k_are_named(tmp_path):
    images(tmp_path, 12, "data")
    for part in (1, 2, 3):
        for split, k in (("train", 0), ("val", 6), ("test", 9)):
            content = coco(12)
            content["annotations"] = content["annotations"][k : k + 6 if split == "train" else k + 3]
            write_json(tmp_path, content, f"annotations/ap10k-{split}-split{part}.json")
    with pytest.raises(
        UserError, match=r"test-split1\.json and .*test-split2\.json: both .*of one split, such as split1"
    ):
        read(tmp_path)
    for file in tmp_path.glob("annotations/*split[23].json"):
        file.unlink()
    assert Counter(entry.split for entry in read(tmp_path).entries) == {"train": 6, "val": 3, "test": 3}


def change(**values):
    return lambda content: content["annotations"][0].update(values)


DAMAGE = [
    (change(image_id=999), "annotation 100: image_id 999 is none of the images"),
    (change(category_id=[1]), r"annotation 100: category_id \[1\] is none of the categories"),
    (change(keypoints=[1, 2, 2]), "annotation 100: keypoints must be a list of 9, x, y, v of each .* but has 3"),
    (change(keypoints=[1, 2] * 3), "annotation 100: keypoints must be a list of 9, .* but has 6"),
    (change(keypoints={"a": 1}), "annotation 100: keypoints must be a list, but is"),
    (change(keypoints=[None] * 9), "annotation 100: keypoints must be a number, but is missing"),
    (change(bbox=[1, 2, 3]), "annotation 100: bbox must be a list of 4"),
    (change(id="a\nb"), r"annotations\[0\]: id must be a number or a text, but is 'a\\nb'"),
    (lambda c: c.update(annotations={}), "annotations must be a list"),
    (lambda c: c.update(images=[3]), r"images\[0\] must be an object, but is 3"),
    (lambda c: c["images"][1].update(id=0), r"images '0\.jpg' and '1\.jpg' have one id, 0"),
    (lambda c: c["categories"][0].update(name=None), "name needs a name, but is missing"),
    (lambda c: c["categories"][0].update(keypoints=["a", "a", "b"]), "has two keypoints of one name"),
    (lambda c: c["categories"][0].update(keypoints=[]), "no category names its keypoints; .*categories: 'person'"),
    (lambda c: c["categories"].append(c["categories"][0]), "has the id 1 of category person"),
    (lambda c: c["images"][0].update(split="dev"), r"annotation 100: no split 'dev'; known: test, train, val"),
    (lambda c: c["images"][0].update(file_name="../0.jpg"), "file_name of its image must lie in the folder itself"),
    (lambda c: c["annotations"].append(c["annotations"][0]), r"object person/0\.jpg#100 is listed 2 times"),
    (lambda c: [a.update(bbox=[20, 10, 40, 20]) for a in c["annotations"]], "not two corners"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_wrong_value_is_named(tmp_path, damage, message):
    images(tmp_path)
    content = coco(60)
    damage(content)
    with pytest.raises(UserError, match=message) as error:
        read(write_json(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_damaged_object_is_skipped_and_counted(tmp_path):
    images(tmp_path)
    content = coco(60)
    content["annotations"][0]["image_id"] = 999
    content["annotations"][1]["bbox"] = [5, 5, 0, 7]
    content["annotations"][2]["keypoints"][:2] = [float("nan"), 5]
    content["annotations"][3]["keypoints"] = [500, 500, 2] * 3
    listing = read(write_json(tmp_path, content), skip_bad=True, clip_to_box=True)
    assert listing.left_out == {UNREADABLE: 1, EMPTY_BOX: 1, FEW: 1, NOT_FINITE: 1, OUTSIDE_BOX: 3}
    assert set(next(e for e in listing.entries if e.photo == "2.jpg").points) == {"b", "c"}


def test_coordinates_of_another_size_of_the_image_are_refused(tmp_path):
    images(tmp_path)
    content = coco(60)
    content["images"][0] |= {"width": 80, "height": 40}
    with pytest.raises(UserError, match=r"0\.jpg: 40 x 20 pixels, but its annotation says 80 x 40"):
        prepare(config(), raw=write_json(tmp_path, content), out=tmp_path / "out")


@pytest.mark.skipif(not MINI.is_dir(), reason="needs shared/data/coco_mini")
@pytest.mark.parametrize("sides", [(80.0, 40.0), ("80", "40")])
def test_sizes_that_are_no_whole_numbers_in_json_count_too(tmp_path, sides):
    images(tmp_path, 12)
    content = coco(12)
    for image in content["images"]:
        image["width"], image["height"] = sides
    prepared = write_json(tmp_path, content)
    with pytest.raises(UserError, match="40 x 20 pixels, but its annotation says 80 x 40"):
        prepare(config(), raw=prepared, out=tmp_path / "out")


def test_coordinates_of_unlabelled_keypoints_may_be_null(tmp_path):
    images(tmp_path, 12)
    content = coco(12)
    content["annotations"][0]["keypoints"][:3] = [None, None, 0]
    found = {entry.photo: set(entry.points) for entry in read(write_json(tmp_path, content)).entries}
    assert len(found["0.jpg"]) == len(found["1.jpg"]) - 1


def test_the_counts_of_real_annotations():
    clipped, listing = read(MINI, clip_to_box=True), read(MINI)
    assert Counter(entry.split for entry in clipped.entries) == {"train": 81, "val": 64}
    assert clipped.left_out == {CROWD: 6, UNLABELLED: 130, FEW: 9, OUTSIDE_BOX: 71}
    # One person of train has two labelled keypoints, one of them outside the box: the enlarged box holds both.
    assert Counter(entry.split for entry in listing.entries) == {"train": 82, "val": 64}
    assert listing.left_out == {CROWD: 6, UNLABELLED: 130, FEW: 8}
    # 71 of their 1,444 keypoints lie outside the box; that person is left out with the other one.
    assert [sum(len(entry.points) for entry in found.entries) for found in (clipped, listing)] == [1372, 1444]
    assert sum(len(load(entry, size=16).points) for entry in listing.entries) == 1444
    assert "skipped, no keypoints in it: annotations/captions_train2017.json, " in "\n".join(listing.notes)


@settings(deadline=None, max_examples=100)
@given(STEPS, VALUES)
def test_any_value_anywhere_gives_a_listing_or_one_line(tmp_path_factory, steps, value):
    root = tmp_path_factory.getbasetemp() / "coco"
    if not root.exists():
        images(root, 20)
    listing_or_one_line(root, "coco.json", json.dumps(replaced(coco(20), steps, value)).encode())


def test_images_are_found_in_the_folder_of_the_file(tmp_path):
    content = coco(12)
    for k in range(12):
        write_image(tmp_path / "train" / f"{k}.jpg")
        write_image(tmp_path / "other" / f"{k}.jpg")
    found = read(write_json(tmp_path, content, "train/_annotations.coco.json")).entries
    assert {entry.image.parent.name for entry in found} == {"train"}

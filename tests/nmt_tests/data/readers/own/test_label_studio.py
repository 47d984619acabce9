import json

import pytest
from hypothesis import given, settings

from nmt.data.readers.own.label_studio import NAME, file_names, recognises
from nmt.data.readers.own.source import NO_KEYPOINTS
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import images, listing_or_one_line, read, write_json
from tests.nmt_tests.data.readers.own.tools import STEPS, VALUES, keypoint, region, replaced, task
from tests.nmt_tests.data.readers.raw_sets import SQUARE

NOTE = f"{NAME}: objects without a category have the category object"


def points(dx=0, **more):
    return [keypoint(name, (x + dx, y), **more) for name, (x, y) in SQUARE.items()]


def tasks(num=12, name="{}.jpg", results=None, **more):
    return [task(name.format(k), results or points(), **more) for k in range(num)]


def rectangle(label, x, y, width, height, **more):
    return region("rectanglelabels", label, {"x": x, "y": y, "width": width, "height": height}, **more)


def first(root, **options):
    return next(entry for entry in read(root, **options).entries if entry.photo == "0.jpg")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("/data/upload/1/abc-a.jpg", ["abc-a.jpg", "a.jpg"]),
        ("/data/upload/1/5f3a9c1e-my-bird.jpg", ["5f3a9c1e-my-bird.jpg", "my-bird.jpg"]),
        ("/data/upload/a%20b.jpg", ["a b.jpg"]),
        ("/data/local-files/?d=birds/train/a.jpg", ["birds/train/a.jpg", "a.jpg"]),
        ("/data/local-files/?d=birds%5Ca.jpg&x=1", ["birds\\a.jpg", "birds\\a.jpg"]),
        ("s3://bucket/birds/a.jpg", ["s3://bucket/birds/a.jpg", "a.jpg"]),
        ("https://bucket/a.jpg?X-Amz-Token=AAAA", ["https://bucket/a.jpg?X-Amz-Token=AAAA", "a.jpg"]),
        ("..\\..\\label-studio\\media\\upload\\4\\a.jpg", ["a.jpg"]),
        ("a.jpg", ["a.jpg", "a.jpg"]),
        (None, [None]),
    ],
)
def test_the_names_that_an_image_may_have(name, names):
    assert file_names(name) == names


@pytest.mark.parametrize(
    "name",
    ["/data/upload/1/abc-{}.jpg", "/data/local-files/?d=some/dir/{}.jpg", "s3://bucket/{}.jpg", "/home/me/{}.jpg"],
)
def test_keypoints_are_percent_of_the_sides(tmp_path, name):
    images(tmp_path, 12)
    listing = read(write_json(tmp_path, tasks(name=name)))
    assert len(listing.entries) == 12 and NOTE in listing.notes
    entry = listing.entries[0]
    assert (entry.photo, entry.category, entry.box, entry.size) == ("0.jpg", "object", None, (40, 20))
    assert {name: pytest.approx(xy) for name, xy in SQUARE.items()} == entry.points


def test_an_uploaded_image_may_keep_its_prefix(tmp_path):
    names = [f"5f3a9c1e-{k}.jpg" for k in range(12)]
    for k, image in enumerate(images(tmp_path, 12)):
        (tmp_path / "images" / image).rename(tmp_path / "images" / names[k])
    assert {e.photo for e in read(write_json(tmp_path, tasks(name="/data/upload/5f3a9c1e-{}.jpg"))).entries} == {*names}


def test_the_parent_of_keypoints_gives_category_and_box(tmp_path):
    images(tmp_path, 12)
    results = [
        *(points(parentID="left") + points(5, parentID="right")),
        rectangle("bird", 8, 2, 24, 10, id="left"),
        region("polygonlabels", "fish", {}, id="right"),
        {"type": "relation", "from_id": "left", "to_id": "right"},
        {"type": "choices", "value": {"choices": ["x"]}},
    ]
    results[7]["value"]["points"] = [[20, 10], [95, 10], [50, 90]]
    root = write_json(tmp_path, tasks(results=results))
    found = {entry.id: (entry.category, entry.box) for entry in read(root).entries}
    assert found["bird/0.jpg#left"] == ("bird", pytest.approx((8, 2, 32, 15)))
    assert found["fish/0.jpg#right"] == ("fish", pytest.approx((8, 2, 38, 18)))
    assert len(found) == 24 and NOTE not in read(root).notes
    clipped = {entry.id: entry.box for entry in read(root, clip_to_box=True).entries}
    assert clipped["bird/0.jpg#left"] == pytest.approx((8, 2, 32, 12))


@pytest.mark.parametrize("links", [{}, {"id": "r1"}])
def test_the_only_box_of_an_image_needs_no_link(tmp_path, links):
    images(tmp_path, 12)
    entry = first(write_json(tmp_path, tasks(results=[rectangle("bird", 5, 1, 30, 18, **links), *points()])))
    assert entry.category == "bird" and entry.box == pytest.approx((5, 1, 35, 19))


def test_several_boxes_without_a_link_are_ignored_and_noted(tmp_path):
    images(tmp_path, 12)
    listing = read(write_json(tmp_path, tasks(results=[rectangle("bird", 5, 1, 30, 18) for _ in "ab"] + points())))
    assert f"{NAME}: boxes without a group are ignored where an image has several" in listing.notes
    assert listing.entries[0].category == "object" and listing.entries[0].box is None


def test_ellipses_and_rotated_rectangles_are_boxes(tmp_path):
    images(tmp_path, 12)
    turned = rectangle("bird", 30, 5, 10, 20)
    turned["value"]["rotation"] = 90
    root = write_json(tmp_path, tasks(results=[turned, *points()]))
    assert first(root, clip_to_box=True).box == pytest.approx((10, 5, 30, 15))
    ellipse = region("ellipselabels", "bird", {"x": 20, "y": 10})
    ellipse["value"] |= {"radiusX": 50, "radiusY": 25}
    root = write_json(tmp_path, tasks(results=[ellipse, *points()]))
    assert first(root, clip_to_box=True).box == pytest.approx((0, 5, 40, 15))


def annotation(dx, **more):
    return {"result": points(dx), **more}


@pytest.mark.parametrize(
    ("annotations", "chosen"),
    [
        ([annotation(0), annotation(5)], 5),
        ([annotation(0, updated_at="2024-02-01T00:00:00Z"), annotation(5, updated_at="2024-01-01T00:00:00Z")], 0),
        ([annotation(0, ground_truth=True), annotation(5, updated_at="2024-01-01T00:00:00Z")], 0),
        ([annotation(0), annotation(5, was_cancelled=True)], 0),
    ],
)
def test_one_of_several_annotations_is_read(tmp_path, annotations, chosen):
    images(tmp_path, 12)
    content = [{"id": k, "data": {"image": f"{k}.jpg"}, "annotations": annotations} for k in range(12)]
    listing = read(write_json(tmp_path, content))
    assert listing.entries[0].points["a"] == pytest.approx((10 + chosen, 5))
    assert any("several annotations" in note for note in listing.notes) == (not annotations[1].get("was_cancelled"))


def test_cancelled_tasks_and_predictions_are_no_annotations(tmp_path):
    images(tmp_path, 15)
    content = tasks(15)
    content[12]["annotations"][0]["was_cancelled"] = True
    content[13] |= {"annotations": [], "predictions": [{"result": points()}]}
    content[14]["annotations"][0]["result"] = [{"type": "choices", "value": {"choices": ["x"]}}]
    listing = read(write_json(tmp_path, content))
    assert listing.left_out == {NO_KEYPOINTS: 3} and len(listing.entries) == 12


def test_old_exports_and_splits_of_tasks(tmp_path):
    images(tmp_path, 12)
    content = tasks()
    for k, found in enumerate(content):
        found["completions"] = found.pop("annotations")
        found["data"] = {"id": "x", "source": f"{k}.jpg", "split": "val" if k < 4 else "train"}
    entries = read(write_json(tmp_path, content)).entries
    assert [entry.split for entry in entries].count("val") == 4 and len(entries) == 12


def test_json_min_is_read(tmp_path):
    images(tmp_path, 12)
    content = []
    for k in range(12):
        flat = [{"original_width": 40, "original_height": 20, **item["value"]} for item in points()]
        box = {"original_width": 40, "original_height": 20, **rectangle("bird", 5, 1, 30, 18)["value"]}
        content.append({"id": k, "image": f"/data/upload/1/abc-{k}.jpg", "kp": flat, "box": [box], "annotator": 1})
    entry = first(write_json(tmp_path, content))
    assert entry.category == "bird" and entry.box == pytest.approx((5, 1, 35, 19)) and len(entry.points) == 3


def test_tasks_are_recognised_and_lists_of_objects_are_not():
    assert recognises(tasks(1)) and recognises(tasks(1)[0]) and recognises([{"kp": [{"keypointlabels": ["a"]}]}])
    assert not recognises([{"image": "a.jpg", "keypoints": {"a": [1, 2]}}]) and not recognises([]) and not recognises(3)


def value(**values):
    return lambda content: content[0]["annotations"][0]["result"][0]["value"].update(values)


def item(**values):
    return lambda content: content[0]["annotations"][0]["result"][0].update(values)


DAMAGE = [
    (lambda c: c[0]["data"].clear(), "task 7: image must be the name of a file, but is missing"),
    (lambda c: c[0]["data"].update(img="x.jpg"), r"task 7: image: no image 'x\.jpg' below"),
    (lambda c: c[0].update(annotations={}), "task 7: annotations must be a list"),
    (lambda c: c[0]["annotations"][0].update(result=None), "task 7: result must be a list, but is missing"),
    (lambda c: c[0]["annotations"][0]["result"].extend(points()), "task 7: the keypoint a is labelled twice"),
    (value(x="ten"), "task 7: result 0: x must be a number, but is 'ten'"),
    (value(keypointlabels=[]), r"result 0: keypointlabels must hold one label, but is \[\]"),
    (value(keypointlabels=["a", "b"]), "result 0: keypointlabels must hold one label"),
    (item(original_width=None), "result 0: original_width must be a number, but is missing"),
    (item(original_width=0), "result 0: original_width and original_height must be more than 0"),
    (item(image_rotation=90), "result 0: the image was rotated in Label Studio; export COCO"),
    (item(parentID=[1]), r"result 0: parentID must be a text, but is \[1\]"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_wrong_value_is_named_or_counted_once(tmp_path, damage, message):
    images(tmp_path, 13)
    content = tasks(13)
    damage(content)
    with pytest.raises(UserError, match=message) as error:
        read(write_json(tmp_path, content))
    assert "\n" not in str(error.value)
    assert read(tmp_path, skip_bad=True).left_out == {"unreadable": 1}


@settings(deadline=None, max_examples=150)
@given(STEPS, VALUES)
def test_any_value_anywhere_gives_a_listing_or_one_line(tmp_path_factory, steps, value):
    root = tmp_path_factory.getbasetemp() / "label_studio"
    if not root.exists():
        images(root, 12)
    content = tasks(results=[*points(parentID="r"), rectangle("bird", 8, 2, 24, 10, id="r")])
    listing_or_one_line(root, "export.json", json.dumps(replaced(content, steps, value)).encode())

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run
from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers import user_data as own
from nmt.data.readers.base import RawListing, load
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.sampler import PairSampler
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import SQUARE, coco, csv_rows, or_one_line, write_csv, write_image
from tune.cli import train
from tune.cli.configuration import recipe
from tune.cli.job import parse


def read(raw: Path, *, skip_bad: bool = False) -> RawListing:
    return own.read(raw, skip_bad=skip_bad)


def config(name: str = "birds", size: int = 32) -> Config:
    return with_overrides(Config(), {"data.name": name, "data.image_size": size}, source="test")


def images(root: Path, num: int = 60, folder: str = "images") -> list[str]:
    return [write_image(root / folder / f"{k}.jpg").name for k in range(num)]


@pytest.fixture
def table(tmp_path) -> Path:
    """Sixty images of birds in one CSV, no splits."""
    root = tmp_path / "birds"
    write_csv(root, [row for name in images(root) for row in csv_rows(name)])
    return root


def objects(num: int = 60) -> list[dict[str, Any]]:
    return [
        {"image": f"{k}.jpg", "category": "bird", "keypoints": {n: list(xy) for n, xy in SQUARE.items()}}
        for k in range(num)
    ]


def write_json(root: Path, content: Any, name: str = "points.json") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root


def test_the_three_formats_give_the_same_objects(tmp_path, table):
    images(tmp_path / "list")
    images(tmp_path / "coco", folder="train")
    content = coco(60)
    content["categories"][0]["name"] = "bird"
    listings = [
        read(table),
        read(write_json(tmp_path / "list", objects())),
        read(write_json(tmp_path / "coco", content, "annotations/birds_train.json").parent / "coco"),
    ]
    loaded = [{entry.photo: load(entry, size=16).points for entry in listing.entries} for listing in listings]
    assert loaded[0] == loaded[1] and loaded[0].items() <= loaded[2].items()
    assert loaded[0]["7.jpg"] == {"a": (4, 4), "b": (12, 4), "c": (8, 12)}


def test_images_without_a_split_are_split_by_their_name(table):
    by_split = Counter(entry.split for entry in read(table).entries)
    assert by_split.total() >= 58 and by_split["train"] > 35 and by_split["val"] >= 2
    assert {e.id: e.split for e in read(table).entries} == {e.id: e.split for e in read(table).entries}


def test_a_column_split_is_kept_and_val_is_taken_from_train_where_none_is_given(tmp_path):
    names = images(tmp_path)
    splits = ["test" if k < 20 else "val" if k < 30 else "train" for k in range(60)]
    write_csv(
        tmp_path,
        [row for name, split in zip(names, splits, strict=True) for row in csv_rows(name, "bird", SQUARE, split)],
        "image,category,keypoint,x,y,split",
    )
    assert Counter(e.split for e in read(tmp_path).entries) == {"train": 30, "val": 10, "test": 20}
    text = (tmp_path / "points.csv").read_text()
    (tmp_path / "points.csv").write_text(text.replace(",val", ",train"))
    by_split = Counter(e.split for e in read(tmp_path).entries)
    assert by_split["test"] == 20 and by_split["val"] >= 2 and by_split["train"] + by_split["val"] == 40


def test_coco_files_are_split_by_their_names(tmp_path):
    for split in ("train", "val"):
        images(tmp_path, 10, f"{split}2017")
        content = coco(10)
        for image in content["images"]:
            image["file_name"] = f"{split}{image['file_name']}"
            (tmp_path / f"{split}2017" / image["file_name"].removeprefix(split)).rename(
                tmp_path / f"{split}2017" / image["file_name"]
            )
        write_json(tmp_path, content, f"annotations/person_keypoints_{split}2017.json")
    listing = read(tmp_path)
    assert Counter(entry.split for entry in listing.entries) == {"train": 10, "val": 10}
    assert {entry.image.parent.name for entry in listing.entries} == {"train2017", "val2017"}


def test_coco_objects_are_cut_out_and_unlabelled_keypoints_dropped(tmp_path):
    images(tmp_path)
    content = coco(60)
    first, second, crowd, plain = content["annotations"][:4]
    first["bbox"] = [10, 5, 20, 10]
    second["keypoints"][2], second["bbox"] = 0, None
    crowd["iscrowd"] = 1
    del plain["keypoints"]
    listing = read(write_json(tmp_path, content))
    assert listing.left_out == {own.CROWD: 1, own.UNLABELLED: 1}
    by_photo = {entry.photo: entry for entry in listing.entries}
    assert load(by_photo["0.jpg"], size=40).points == {"a": (0, 0), "b": (40, 0), "c": (20, 40)}
    assert load(by_photo["1.jpg"], size=40).points == {"b": (30, 10), "c": (20, 30)}


def test_several_objects_of_an_image_stay_in_one_split_and_are_never_paired(tmp_path):
    images(tmp_path, 30)
    store_objects = [copy.deepcopy(o) for o in objects(30) for _ in range(2)]
    for k, found in enumerate(store_objects):
        found["split"] = "val" if k < 10 else "train"
        found["box"] = [0, 0, 40, 20]
    prepare(config(), raw=write_json(tmp_path, store_objects), out=tmp_path / "out")
    store = ObjectStore.open(tmp_path / "out")
    assert len(store) == 60 and "bird/3.jpg#1" in {store.id(row) for row in range(60)}
    for pair in PairSampler(store, "val").draw_distinct(__import__("numpy").random.default_rng(0), 0, 1000):
        assert store.photo[pair.row0] != store.photo[pair.row1]


CSV_DAMAGE = [
    ("1.jpg,bird,a,10,5", "1.jpg,bird,a,ten,5", r"line 5: x must be a number, but is 'ten'"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,a,10", "line 5: fewer columns than the first line names"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,,10,5", "line 5: a keypoint needs a name"),
    ("1.jpg,bird,a,10,5", "1.jpg,bird,b,10,5", r"line 6: b of 1\.jpg is labelled twice"),
    ("0.jpg,bird", "../0.jpg,bird", "image must lie in the folder itself, but is '../0.jpg'"),
    ("0.jpg,bird", "/etc/0.jpg,bird", "image must lie in the folder itself"),
    ("0.jpg,bird", ",bird", "line 2: image must be the name of a file"),
    ("0.jpg,bird", "0.jpg,a/b", "line 2: category must be a name, but is 'a/b'"),
    ("image,category", "file,category", "no column image; the first line names them: image,category,keypoint,x,y"),
]


@pytest.mark.parametrize(("old", "new", "message"), CSV_DAMAGE)
def test_a_wrong_line_of_a_table_is_named(table, old, new, message):
    path = table / "points.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        read(table)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def change(**values: Any):
    return lambda content: content["annotations"][0].update(values)


JSON_DAMAGE = [
    (change(image_id=999), "annotation 100: image_id 999 is none of the images"),
    (change(category_id=[1]), r"annotation 100: category_id \[1\] is none of the categories"),
    (change(keypoints=[1, 2, 2]), "annotation 100: keypoints must be a list of 9"),
    (change(keypoints=[None] * 9), "annotation 100: keypoints must be a number, but is missing"),
    (change(bbox=[1, 2, 3]), "annotation 100: bbox must be a list of 4"),
    (lambda c: c.update(annotations={}), "annotations must be a list"),
    (lambda c: c.update(images=[3]), r"images\[0\] must be an object, but is 3"),
    (lambda c: c["categories"][0].update(name=None), "name must be a name, but is missing"),
    (lambda c: c["categories"][0].update(keypoints=["a", "a", "b"]), "has two keypoints of one name"),
    (lambda c: c["images"][0].update(split="dev"), r"annotation 100: no split 'dev'; known: test, train, val"),
    (lambda c: c["images"][0].update(file_name="../0.jpg"), "file_name of its image must lie in the folder itself"),
    (lambda c: c["annotations"].append(c["annotations"][0]), r"object person/0\.jpg#100 is listed 2 times"),
]


@pytest.mark.parametrize(("damage", "message"), JSON_DAMAGE)
def test_a_wrong_value_of_coco_is_named(tmp_path, damage, message):
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
    listing = read(write_json(tmp_path, content), skip_bad=True)
    assert listing.left_out == {"unreadable": 1, "an empty box": 1, "fewer than 2 keypoints": 1}
    assert set(next(e for e in listing.entries if e.photo == "2.jpg").points) == {"b", "c"}


def test_coordinates_of_another_size_of_the_image_are_refused(tmp_path):
    images(tmp_path)
    content = coco(60)
    content["images"][0] |= {"width": 80, "height": 40}
    with pytest.raises(UserError, match=r"0\.jpg: 40 x 20 pixels, but its annotation says 80 x 40"):
        prepare(config(), raw=write_json(tmp_path, content), out=tmp_path / "out")


def test_an_image_in_two_splits_is_refused(tmp_path):
    images(tmp_path)
    content = [copy.deepcopy(o) | {"split": split} for o in objects() for split in ("train", "val")]
    with pytest.raises(UserError, match=r"0\.jpg is in (train|val) and in (train|val); an image has one split"):
        read(write_json(tmp_path, content))


def test_an_unknown_folder_says_what_was_looked_for(tmp_path, table):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no annotations of keypoints; looked for \*\.csv"):
        read(tmp_path / "empty")
    with pytest.raises(UserError, match=r"does not exist; looked for"):
        read(tmp_path / "absent")
    with pytest.raises(UserError, match="neither COCO keypoints .* nor a list of objects"):
        read(write_json(tmp_path / "other", {"points": []}))
    with pytest.raises(UserError, match=r"both points\.csv and points\.json; keep the one"):
        read(write_json(table, []))


def test_a_category_with_one_object_is_left_out_and_counted(table):
    with (table / "points.csv").open("a") as file:
        file.write("\r\n".join(",".join(map(str, row)) for row in csv_rows("3.jpg", "fish")) + "\r\n")
    listing = read(table)
    assert list(listing.keypoint_names()) == ["bird"]
    assert listing.left_out["no other photograph with 2 common keypoints"] >= 1


def test_a_misspelt_name_of_a_published_set_is_hinted_at(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match=r"looked for .* or did you mean --prepare willow\?"):
        prepare(config("wilow"), raw=tmp_path / "raw", out=tmp_path / "out")


def test_own_data_is_prepared_from_the_command_line_and_then_a_recipe(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sets = ["--set", "data.image_size=32"]
    assert run.main(["--prepare", "birds", "--raw", str(table), *sets]) == 0
    assert "bird" in capsys.readouterr().out and (tmp_path / "data/birds/objects.arrow").is_file()
    assert recipe(parse(train.JOB, ["--train", "birds", *sets])).data.name == "birds"
    assert run.main(["--train", "birdz"]) == 2
    assert "no recipe named 'birdz'" in capsys.readouterr().err


keys = st.sampled_from(["image", "category", "keypoints", "split", "box"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    images(root)
    return root


def listing_or_one_line(root: Path, name: str, content: bytes) -> None:
    (root / name).write_bytes(content)
    try:
        with or_one_line():
            read(root)
    finally:
        (root / name).unlink()


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(keys, values), st.integers(0, 59))
def test_any_values_of_an_object_give_a_listing_or_one_line(fuzzed, changes, k):
    content = objects()
    content[k] |= changes
    listing_or_one_line(fuzzed, "points.json", json.dumps(content).encode())


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["images", "annotations", "categories"]),
    st.sampled_from(["id", "image_id", "category_id", "keypoints", "bbox", "file_name", "name", "width", "split"]),
    values,
)
def test_any_values_in_coco_give_a_listing_or_one_line(fuzzed, table, key, value):
    content = coco(20)
    content[table][0][key] = value
    listing_or_one_line(fuzzed, "coco.json", json.dumps(content).encode())


@settings(deadline=None, max_examples=150)
@given(st.booleans(), st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 6))
def test_any_bytes_of_an_annotation_give_a_listing_or_one_line(fuzzed, as_csv, place, inserted, removed):
    rows = "\n".join(",".join(map(str, row)) for k in range(20) for row in csv_rows(f"{k}.jpg"))
    text = f"image,category,keypoint,x,y\n{rows}\n" if as_csv else json.dumps(coco(20))
    place %= len(text)
    content = text[:place].encode() + inserted + text[place + removed :].encode()
    listing_or_one_line(fuzzed, "points.csv" if as_csv else "points.json", content)


def test_mirrored_names_are_read_from_their_own_file(table, tmp_path):
    (table / "mirror.csv").write_text("category,left,right\nbird,a,b\n")
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

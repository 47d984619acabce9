from collections import Counter
from pathlib import Path

import pytest

from nmt.data.prepare.objects import prepare
from nmt.data.readers.listed_pairs import FEW_COMMON, REPEATED
from nmt.data.readers.own.pairs import IN_NO_PAIR, NO_OBJECT, NO_TRAINING
from nmt.data.store.given_pairs import EVALUATION_ONLY, PairTable
from nmt.data.store.objects import ObjectStore
from nmt.data.store.ready import check_pairs
from nmt.data.store.verify import check
from nmt.data.stream.pairs import eval_pairs
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import config, images, objects, read, write_json

LINES = (
    "train,0.jpg,1.jpg",
    "train,1.jpg,2.jpg",
    "val,3.jpg,4.jpg",
    "test,5.jpg,6.jpg",
    "test,bird/6.jpg,images/5.jpg",
)


def birds(tmp_path: Path, *lines: str, header: str = "split,source,target", **more: str) -> Path:
    """Ten images with a bird each; 8.jpg has one of its keypoints, 9.jpg another pair of them."""
    root, found = tmp_path / "birds", objects(10, **more)
    images(root, 10)
    found[8]["keypoints"] = {"a": [1, 2]}
    found[9]["keypoints"] = {"c": [1, 2], "d": [3, 4]}
    write_json(root, found)
    (root / "pairs.csv").write_text("\n".join([header, *lines]))
    return root


def test_the_pairs_are_those_of_the_file_and_give_images_their_split(tmp_path):
    listing = read(birds(tmp_path, *LINES))
    assert [(p.split, p.id0, p.id1) for p in listing.pairs or ()] == [
        ("train", "bird/0.jpg", "bird/1.jpg"),
        ("train", "bird/1.jpg", "bird/2.jpg"),
        ("val", "bird/3.jpg", "bird/4.jpg"),
        ("test", "bird/5.jpg", "bird/6.jpg"),
        ("test", "bird/6.jpg", "bird/5.jpg"),
    ]
    assert Counter(e.split for e in listing.entries) == {"train": 3, "val": 2, "test": 2}
    assert all(p.keypoints == ("a", "b", "c") for p in listing.pairs or ())
    assert listing.left_out[IN_NO_PAIR] == 2 and tmp_path / "birds/pairs.csv" in listing.files


@pytest.mark.parametrize("change", [("pairs.csv", ","), ("Pairs.CSV", ";"), ("pairs.csv", "\t")])
def test_a_file_of_a_spreadsheet_program_is_read(tmp_path, change):
    root, (name, delimiter) = birds(tmp_path, *LINES), change
    text = (root / "pairs.csv").read_text().replace("split,source", "Split , SOURCE").replace(",", delimiter)
    (root / "pairs.csv").unlink()
    (root / name).write_text(text + "\n\n", encoding="utf-8-sig")
    listing = read(root)
    assert len(listing.pairs or ()) == 5 and not any("skipped" in note for note in listing.notes)


def test_evaluation_takes_the_given_pairs_and_a_changed_file_makes_the_data_set_anew(tmp_path):
    root = birds(tmp_path, *LINES)
    report = prepare(config(), raw=root, out=tmp_path / "data")
    assert report.pairs == {"train": 2, "val": 1, "test": 2}
    store = ObjectStore.open(tmp_path / "data")
    pairs = eval_pairs(store, config().data, split="test")
    named = [(store.id(pair.row0), store.id(pair.row1)) for pair in pairs]
    assert sorted(named) == [("bird/5.jpg", "bird/6.jpg"), ("bird/6.jpg", "bird/5.jpg")]
    assert check(tmp_path / "data").pairs == 5
    assert not prepare(config(), raw=root, out=tmp_path / "data").made
    (root / "pairs.csv").write_text("\n".join(["split,source,target", *LINES[:4]]))
    assert prepare(config(), raw=root, out=tmp_path / "data").pairs["test"] == 1


def test_a_split_of_the_annotation_stands_for_an_empty_cell(tmp_path):
    root = birds(tmp_path, "0.jpg,1.jpg", header="source,target", split="test")
    listing = read(root)
    assert [p.split for p in listing.pairs or ()] == ["test"] and NO_TRAINING in listing.notes


def test_what_cannot_be_matched_is_left_out_and_counted(tmp_path):
    listing = read(
        birds(tmp_path, *LINES, "train,0.jpg,9.jpg", "train,0.jpg,8.jpg", "train,0.jpg,bird/8.jpg", "val,3.jpg,4.jpg")
    )
    assert listing.left_out[FEW_COMMON] == 1 and listing.left_out[NO_OBJECT] == 2 and listing.left_out[REPEATED] == 1
    assert len(listing.pairs or ()) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train,0.jpg,77.jpg", "line 7: target: no image or object '77.jpg'; did you mean|write the name"),
        ("train,0.jpg,brid/1.jpg", "line 7: target: no image or object 'brid/1.jpg'; did you mean 'bird/1.jpg'"),
        ("train,0.jpg,portrait", "line 7: target: no image or object 'portrait'; write the name of an image, such as"),
        ("train,,1.jpg", "line 7: source must be the name of a file, but is ''"),
        ("train,0.jpg,0.jpg", "line 7: pairs 'bird/0.jpg' with itself"),
        ("train,0.jpg,3.jpg", r"line 7: a pair in train, but '3.jpg' is in val \(by line 4\); an image has one split"),
        ("trian,0.jpg,1.jpg", "line 7: no split 'trian'; did you mean 'train'"),
        (",7.jpg,9.jpg", "line 7: the pair has no split, nor have its images; write train, val, test in split"),
        ("train,0.jpg", "line 7: fewer columns than the first line names; it lacks 'target'"),
    ],
)
def test_a_wrong_line_is_named_and_can_be_left_out(tmp_path, line, message):
    root = birds(tmp_path, *LINES, line)
    with pytest.raises(UserError, match=message) as error:
        read(root)
    assert "pairs.csv" in str(error.value) and "\n" not in str(error.value)
    if "fewer columns" not in message:
        assert read(root, skip_bad=True).left_out["unreadable"] == 1


def test_pairs_of_two_categories_and_names_of_several_objects_are_refused(tmp_path):
    root = birds(tmp_path, "train,0.jpg,1.jpg")
    cats = [{**found, "category": "cat"} for found in objects(2)]
    write_json(root, [*objects(2), *cats])
    with pytest.raises(UserError, match="source: '0.jpg' may be 'bird/0.jpg', 'cat/0.jpg'; write the id of one"):
        read(root)
    for line, message in (
        ("train,bird/0.jpg,cat/1.jpg", "are of two categories; a pair joins two objects of one"),
        ("train,bird/0.jpg,cat/0.jpg", "are in one image; a pair joins two images"),
    ):
        (root / "pairs.csv").write_text(f"split,source,target\n{line}\n")
        with pytest.raises(UserError, match=message):
            read(root)


def test_a_split_of_the_annotation_is_kept(tmp_path):
    root = birds(tmp_path, "val,0.jpg,1.jpg", split="train")
    with pytest.raises(UserError, match=r"a pair in val, but '0.jpg' is in train \(by its annotation\)"):
        read(root)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "pairs.csv: no pair is left"),
        (("train,0.jpg,1.jpg",), "pairs.csv: has pairs in train and none in val, which training needs"),
    ],
)
def test_a_file_without_the_pairs_that_are_needed_is_refused(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        read(birds(tmp_path, *lines))
    (tmp_path / "birds/pairs.csv").write_text("split,source\n")
    with pytest.raises(UserError, match="pairs.csv: no column target; the first line names them: source,target"):
        read(tmp_path / "birds")


def test_a_data_set_without_training_pairs_is_for_evaluation_alone(tmp_path):
    report = prepare(config(), raw=birds(tmp_path, LINES[3]), out=tmp_path / "data")
    store = ObjectStore.open(tmp_path / "data")
    assert report.pairs == {"train": 0, "val": 0, "test": 1} and NO_TRAINING in report.info.notes
    assert store.info.options[EVALUATION_ONLY] and len(PairTable(store).of("test")) == 1
    assert check(tmp_path / "data").pairs == 1
    with pytest.raises(UserError, match="is for evaluation alone, .* --evaluate NAME --data"):
        check_pairs(store)


def test_names_of_a_folder_whose_objects_are_all_left_out_are_one_line(tmp_path):
    root = birds(tmp_path, "test,portrait,0.jpg")
    write_json(root, [{**found, "keypoints": {"a": [1, 2]}} for found in objects(2)])
    with pytest.raises(UserError, match="no image or object 'portrait'; no object has two keypoints"):
        read(root)


def test_equal_file_names_of_two_folders_need_the_folder(tmp_path):
    root = tmp_path / "birds"
    for folder in ("a", "b"):
        images(root, 2, folder=folder)
    write_json(root, [{**found, "image": f"{folder}/{found['image']}"} for folder in "ab" for found in objects(2)])
    (root / "pairs.csv").write_text("split,source,target\ntest,a/0.jpg,b/0.jpg\n")
    assert [p.id1 for p in read(root).pairs or ()] == ["bird/b/0.jpg"]
    (root / "pairs.csv").write_text("split,source,target\ntest,a/0.jpg,1.jpg\n")
    with pytest.raises(UserError, match="target: '1.jpg' may be 'bird/a/1.jpg', 'bird/b/1.jpg'; write the id of one"):
        read(root)

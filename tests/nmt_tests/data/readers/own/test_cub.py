import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.readers.own.source import UNLABELLED
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import images, read
from tests.nmt_tests.data.readers.own.tools import Labelled, write_cub
from tests.nmt_tests.data.readers.raw_sets import SQUARE, or_one_line

FOLDERS = ("001.Black_footed_Albatross", "002.Laysan_Albatross")


def birds(box=(10.0, 5.0, 10.0, 10.0)):
    return [Labelled(f"{name}/{k}.jpg", dict(SQUARE), name, box) for name in FOLDERS for k in range(12)]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "CUB_200_2011"
    for name in FOLDERS:
        images(root, 12, f"images/{name}")
    return write_cub(root, birds())


def split(root, of_image):
    (root / "train_test_split.txt").write_text("".join(f"{k} {of_image(k)}\n" for k in range(1, 25)))


def test_classes_are_categories_and_boxes_hold_the_visible_parts(folder):
    split(folder, lambda k: int(k % 12 > 3))
    listing = read(folder)
    entry = next(entry for entry in listing.entries if entry.id == f"{FOLDERS[0]}/{FOLDERS[0]}/0.jpg")
    assert (entry.category, entry.box, entry.points) == (FOLDERS[0], (10, 5, 30, 15), SQUARE)
    assert len(listing.entries) == 24 and {entry.category for entry in listing.entries} == {*FOLDERS}
    clipped = next(found for found in read(folder, clip_to_box=True).entries if found.id == entry.id)
    assert clipped.box == (10, 5, 20, 15) and set(clipped.points) == {"a", "c"}
    assert entry.object_box == clipped.object_box == (10, 5, 20, 15)


def test_the_given_split_is_kept_and_val_is_taken_from_train(folder):
    split(folder, lambda k: int(k % 12 > 3))
    entries = read(folder).entries
    assert {int(entry.image.stem) for entry in entries if entry.split == "test"} == {0, 1, 2, 11}
    assert {entry.split for entry in entries} == {"train", "val", "test"}


def test_every_file_counts_for_the_fingerprint_and_some_may_be_missing(folder):
    names = {file.name for file in read(folder).files}
    assert names == {
        "part_locs.txt", "parts.txt", "images.txt", "classes.txt", "image_class_labels.txt", "bounding_boxes.txt"
    }  # fmt: skip
    (folder / "bounding_boxes.txt").unlink()
    assert {(entry.box, entry.object_box) for entry in read(folder).entries} == {(None, None)}


def test_parts_that_are_not_visible_are_not_labelled(folder):
    write_cub(folder, [Labelled(birds()[0].image, {}, FOLDERS[0], birds()[0].box), *birds()[1:]])
    assert read(folder).left_out == {UNLABELLED: 1}


def test_the_folder_below_is_pointed_at(folder):
    with pytest.raises(UserError, match=rf"in the folder below, .*part_locs\.txt; give --raw {folder}$"):
        read(folder.parent)


DAMAGE = [
    ("images.txt", "1 ", "one ", "image 'one': its class needs a name"),
    ("images.txt", "2 ", "1 ", r"images\.txt, line 2: the id '1' is given twice"),
    ("images.txt", f"1 {FOLDERS[0]}/0.jpg", "1", r"images\.txt, line 1: must be an id and a value, but is '1'"),
    ("images.txt", "/0.jpg", "/99.jpg", r"image '1': no image '001\.Black_footed_Albatross/99\.jpg' below"),
    ("parts/part_locs.txt", "1 1 10 5 1", "1 1 10 5", r"part_locs\.txt, line 1: must be IMAGE PART X Y VISIBLE"),
    ("parts/part_locs.txt", "1 1 10 5 1", "1 9 10 5 1", r"part_locs\.txt, line 1: part '9' needs a name"),
    ("parts/part_locs.txt", "1 1 10 5 1", "1 1 ten 5 1", r"part_locs\.txt, line 1: x must be a number, but is 'ten'"),
    ("parts/part_locs.txt", "1 2 30 5 1", "1 1 30 5 1", r"part_locs\.txt, line 2: a is given twice for one image"),
    ("bounding_boxes.txt", "1 10.0 5.0", "1 5.0", "image '1': its bounding box needs x, y, width and height"),
    ("train_test_split.txt", "1 1", "1 yes", "image '1': train_test_split.txt must say 1 or 0, but says 'yes'"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), DAMAGE)
def test_a_wrong_line_is_named(folder, file, old, new, message):
    split(folder, lambda k: 1)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(folder):
    (folder / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"classes\.txt: no such file"):
        read(folder)


FILES = (
    "images.txt",
    "classes.txt",
    "image_class_labels.txt",
    "bounding_boxes.txt",
    "parts/parts.txt",
    "parts/part_locs.txt",
)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FILES), st.integers(0, 5), st.binary(max_size=8))
def test_any_bytes_of_a_line_give_a_listing_or_one_line(tmp_path_factory, name, line, content):
    root = tmp_path_factory.getbasetemp() / "cub"
    if not root.exists():
        for folder in FOLDERS:
            images(root, 12, f"images/{folder}")
        write_cub(root, birds())
    before = (root / name).read_bytes()
    lines = before.split(b"\n")
    lines[line % len(lines)] = content
    (root / name).write_bytes(b"\n".join(lines))
    try:
        with or_one_line():
            read(root)
    finally:
        (root / name).write_bytes(before)

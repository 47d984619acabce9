from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.readers.base import UNREADABLE, load
from nmt.data.readers.own import candidates
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import images, read, write_json
from tests.nmt_tests.data.readers.own.tools import WIDTH, WRITERS, Labelled, birds, write_coco, write_labelme
from tests.nmt_tests.data.readers.raw_sets import SQUARE, coco

xs, ys = (st.floats(1.5, side - 0.5).map(lambda value: round(value, 3)) for side in (WIDTH, 20))
given_points = st.fixed_dictionaries(
    {"a": st.tuples(xs, ys), "b": st.tuples(xs, ys)}, optional={"c": st.tuples(xs, ys)}
)


def loaded(root: Path):
    entries = read(root).entries
    return {entry.image.name: {"category": entry.category, **load(entry, size=16).points} for entry in entries}


@settings(deadline=None, max_examples=10)
@given(st.lists(given_points, min_size=8, max_size=8))
def test_every_format_gives_the_same_objects(tmp_path_factory, points):
    found = [Labelled(f"{k}.jpg", of_image) for k, of_image in enumerate(points)]
    results = {}
    for name, write in WRITERS.items():
        root = tmp_path_factory.mktemp(name)
        images(root, 8)
        results[name] = loaded(write(root, found))
    expected = results.pop("table")
    assert {*expected} == {item.image for item in found} and expected["0.jpg"]["category"] == "object"
    for name, result in results.items():
        for image, values in result.items():
            close = {key: value if key == "category" else pytest.approx(value) for key, value in values.items()}
            assert close == expected[image], f"{name}: {image}"
        assert {*result} == {*expected}, name


def test_files_of_two_formats_are_both_named(tmp_path):
    images(tmp_path, 12)
    write_coco(write_labelme(tmp_path, birds()), birds())
    with pytest.raises(UserError, match=r"it holds both 0\.json and coco\.json; keep the one that holds the keypoints"):
        read(tmp_path)


def test_a_large_file_without_keypoints_is_not_parsed(tmp_path):
    images(tmp_path, 12)
    write_json(tmp_path, coco(12))
    with (tmp_path / "instances.json").open("wb") as file:
        file.write(b'{"annotations": [')
        file.truncate(2**24 + 1)
    assert "skipped, no keypoints in it: instances.json" in read(tmp_path).notes
    with (tmp_path / "instances.json").open("ab") as file:
        file.write(b'"keypoints"')
    with pytest.raises(UserError, match=r"instances\.json: not readable JSON"):
        read(tmp_path)


def test_the_embedded_images_of_labelme_are_dropped_at_once(tmp_path):
    write_labelme(tmp_path, birds(2), "deep/er")
    ((file, content), _) = candidates.nested(tmp_path, [])
    assert file == tmp_path / "deep/er/0.json" and "shapes" in content and "imageData" not in content


def test_folders_below_do_not_count_where_the_usual_ones_hold_annotations(tmp_path):
    images(tmp_path, 12)
    write_coco(tmp_path, birds())
    write_labelme(tmp_path, birds(), "old/labelme")
    (tmp_path / "old" / "damaged.json").write_text('{"shapes": [')
    assert len(read(tmp_path).files) == 1
    (tmp_path / "coco.json").unlink()
    with pytest.raises(UserError, match=r"damaged\.json: not readable JSON"):
        read(tmp_path)
    (tmp_path / "old" / "damaged.json").unlink()
    listing = read(tmp_path)
    assert len(listing.files) == 12 and listing.notes[0] == "LabelMe was found in folders below: old/labelme"
    assert listing.entries[0].points == SQUARE


@pytest.mark.parametrize("folder", ["", "labels"])
def test_a_damaged_file_of_labelme_is_one_image_to_leave_out(tmp_path, folder):
    images(tmp_path, 12)
    write_labelme(tmp_path, birds(), folder)
    (tmp_path / folder / "3.json").write_text('{"shapes": [')
    with pytest.raises(UserError, match=r"3\.json: not readable JSON"):
        read(tmp_path)
    listing = read(tmp_path, skip_bad=True)
    assert len(listing.entries) == 11 and listing.left_out == {UNREADABLE: 1}
    for file in (tmp_path / folder).glob("*.json"):
        file.unlink()
    write_coco(tmp_path, birds())
    (tmp_path / "val.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"val\.json: not readable JSON"):  # who knows how many images it holds?
        read(tmp_path, skip_bad=True)

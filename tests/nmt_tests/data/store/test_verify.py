import shutil

import numpy as np
import pyarrow as pa
import pytest

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.store.arrow import METADATA_KEY
from nmt.data.store.objects import OBJECTS_FILE, ObjectStore
from nmt.data.store.verify import check, row_faults
from nmt.errors import UserError


def with_columns(store: ObjectStore, **columns) -> ObjectStore:
    """The data set with some columns replaced."""
    path = store.directory / OBJECTS_FILE
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)
    return ObjectStore.open(store.directory)


def column(store: ObjectStore, name: str) -> list:
    return pa.ipc.open_file((store.directory / OBJECTS_FILE).read_bytes()).read_all().column(name).to_pylist()


def test_a_right_data_set_is_counted(make_store, toy_objects):
    report = check(make_store(toy_objects()).directory)
    assert report.rows == 60 and report.info.counts["train"] == {"chair": 20, "plane": 20}
    assert str(report).splitlines()[1].split() == ["chair", "20", "5", "5"]
    assert "every row and file is right (objects.arrow)" in str(report)


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("keypoints", lambda v: v[::-1], "keypoints out of order"),
        ("keypoints", lambda v: [*v[:-1], 99], "keypoints out of order or range"),
        ("points", lambda v: [float("nan"), *v[1:]], "points outside the image"),
        ("points", lambda v: [65.0, *v[1:]], "points outside the image"),
        ("points", lambda v: v[:-1], "coordinates of"),
        ("edges", lambda v: [40, *v[1:]], "edges that join no keypoints"),
        ("edges", lambda v: v[:-1], "edges that join no keypoints"),
        ("edges", lambda v: [0, 0], "an edge from a keypoint to itself"),
        ("image", lambda v: v[:-3], "cannot be decoded"),
    ],
)
def test_a_wrong_row_is_named(make_store, toy_objects, name, change, fault):
    store = make_store(toy_objects())
    values = column(store, name)
    values[17] = change(values[17])
    with pytest.raises(UserError, match=rf"row 17 \({store.id(17)}\): .*{fault}"):
        check(with_columns(store, **{name: values}).directory)


@pytest.mark.parametrize("sizes", [[], [64, 64, 0], [0, 64, 1, 1], [64, 64, -1, 1], [64, 64, float("nan"), 1]])
def test_sizes_that_are_none_are_named(make_store, toy_objects, sizes):
    store = make_store(toy_objects())
    values = column(store, "sizes")
    with pytest.raises(UserError, match=r"row 2 .*: sizes that are none"):
        check(with_columns(store, sizes=[*values[:2], sizes, *values[3:]]).directory)


def test_a_jpeg_that_breaks_off_is_named(make_store, toy_objects):
    store = make_store(toy_objects(), image_coding="jpeg")
    values = column(store, "image")
    values[3] = values[3][: len(values[3]) // 2]
    with pytest.raises(UserError, match=r"row 3 .*: its image cannot be decoded \(image file is truncated"):
        check(with_columns(store, image=values).directory)


def test_what_is_wrong_with_the_set_as_a_whole_is_named(make_store, toy_objects):
    store = make_store(toy_objects())
    ids, photos, split = (column(store, name) for name in ("id", "photo", "split"))
    with pytest.raises(UserError, match=f"ids are there twice: {ids[1]}"):
        check(with_columns(store, id=[ids[1], *ids[1:]]).directory)
    with pytest.raises(UserError, match="a photograph is in two splits"):
        check(with_columns(store, id=ids, photo=[photos[25], *photos[1:]]).directory)
    with pytest.raises(UserError, match="counts of its metadata are not those of its rows"):
        check(with_columns(store, photo=photos, split=[1, *split[1:]]).directory)
    with pytest.raises(UserError, match="splits out of range"):
        check(with_columns(store, split=[7, *split[1:]]).directory)


def test_a_data_set_without_pairs_to_validate_with_is_named(make_store, toy_objects):
    store = make_store([o for o in toy_objects() if o.split != "val"])
    with pytest.raises(UserError, match="toy: no objects in split val; make the data set anew"):
        check(store.directory)


def test_more_faults_than_fit_a_line_end_in_dots(make_store, toy_objects):
    store = make_store(toy_objects())
    with pytest.raises(UserError, match=r"\.\.\.; make the data set anew"):
        check(with_columns(store, edges=[[0, 0]] * 60).directory)


def test_a_file_changed_since_it_was_made_is_found(tmp_path, shared_data):
    config = with_overrides(Config(), {"data.name": "willow", "data.image_size": 32}, source="test")
    prepare(config, raw=shared_data / "willow", out=tmp_path / "out")
    assert check(tmp_path / "out").files == ["index.arrow", "objects.arrow"]
    content = bytearray((tmp_path / "out" / OBJECTS_FILE).read_bytes())
    place = content.index(ObjectStore.open(tmp_path / "out").image(5).tobytes()[:500])
    content[place] ^= 1
    (tmp_path / "out" / OBJECTS_FILE).write_bytes(content)
    with pytest.raises(UserError, match="objects.arrow has changed since it was made"):
        check(tmp_path / "out")
    (tmp_path / "out" / "index.arrow").unlink()
    with pytest.raises(UserError, match="index.arrow is missing"):
        check(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")


def test_every_row_a_reader_made_is_right(toy_store):
    assert not [fault for row in range(len(toy_store)) for fault in row_faults(toy_store, row)]
    assert METADATA_KEY == b"nmt" and np.isfinite(toy_store.points(0)).all()

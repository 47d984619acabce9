import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nmt.data.graph import delaunay_edges
from nmt.data.store.objects import INDEX_FILE, OBJECTS_FILE, SPLITS, ObjectStore, StoreInfo, write_index
from nmt.errors import UserError


def test_every_object_comes_back_exactly(make_store, toy_objects):
    objects = toy_objects()
    store = make_store(objects)
    assert len(store) == len(objects)
    for row, raw in enumerate(objects):
        names = store.info.keypoint_names[raw.category]
        assert store.id(row) == raw.id
        assert store.info.categories[store.category[row]] == raw.category and SPLITS[store.split[row]] == raw.split
        np.testing.assert_array_equal(store.image(row), raw.image)
        assert [names[k] for k in store.keypoints(row)] == sorted(raw.points, key=names.index)
        expected = np.array([raw.points[names[k]] for k in store.keypoints(row)], np.float32)
        np.testing.assert_array_equal(store.points(row), expected)
        np.testing.assert_array_equal(store.edges(row), delaunay_edges(expected))


def test_rows_are_grouped_by_split_and_category(toy_store):
    for s, split in enumerate(SPLITS):
        for category, rows in enumerate(toy_store.rows(split)):
            expected = np.flatnonzero((toy_store.split == s) & (toy_store.category == category))
            np.testing.assert_array_equal(rows, expected)


def test_the_stored_index_says_what_is_computed_without_it(make_store, monkeypatch, toy_objects):
    monkeypatch.setattr("nmt.data.store.writer._BATCH_ROWS", 7)
    computed = make_store(toy_objects())
    write_index(computed.directory / OBJECTS_FILE, computed.directory / INDEX_FILE)
    stored = ObjectStore.open(computed.directory)
    assert not stored.category.flags.owndata and computed.category.flags.owndata
    for split in SPLITS:
        for rows, expected in zip(stored.rows(split), computed.rows(split), strict=True):
            np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(stored.photo, computed.photo)
    assert [stored.id(row) for row in range(60)] == [computed.id(row) for row in range(60)]


def test_an_index_of_other_objects_is_not_used(make_store, toy_objects):
    store = make_store(toy_objects())
    write_index(store.directory / OBJECTS_FILE, store.directory / INDEX_FILE)
    fewer = make_store(toy_objects()[:7])
    assert (store.directory / INDEX_FILE).is_file() and len(fewer) == 7
    assert sum(len(rows) for split in SPLITS for rows in fewer.rows(split)) == 7


def test_reading_copies_nothing_of_the_mapped_file(make_store, toy_objects):
    store = make_store(toy_objects())
    before = pa.total_allocated_bytes()
    views = [f(row) for row in range(len(store)) for f in (store.image, store.points, store.keypoints, store.edges)]
    assert pa.total_allocated_bytes() == before
    assert not any(view.flags.owndata or view.flags.writeable for view in views)


def test_pickle_carries_the_folder_alone(toy_store):
    data = pickle.dumps(toy_store)
    assert len(data) < 500
    np.testing.assert_array_equal(pickle.loads(data).image(3), toy_store.image(3))


def test_identity_changes_with_the_content(toy_store, make_store, toy_objects):
    assert make_store(toy_objects()).info.identity != toy_store.info.identity
    assert ObjectStore.open(toy_store.directory).info.identity == toy_store.info.identity


def test_metadata_tells_what_the_data_set_is(toy_store):
    assert isinstance(toy_store.info, StoreInfo) and toy_store.info.version == 1
    assert toy_store.info.counts == {"train": {"chair": 40, "plane": 40}} | {
        split: {"chair": 10, "plane": 10} for split in ("val", "test")
    }


def test_a_missing_data_set_names_the_command_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"run.py --prepare willow --raw DIR$"):
        ObjectStore.open(Path("data/willow"))
    with pytest.raises(UserError, match=r"run.py --prepare demo$"):
        ObjectStore.open(Path("data/demo"))
    with pytest.raises(UserError, match=r"run.py --prepare NAME --raw DIR --data 'my sets/two birds'$"):
        ObjectStore.open(Path("my sets/two birds"))


@pytest.mark.parametrize("content", [b"", b"ARROW1 but not really", b"x" * 1000])
def test_a_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / OBJECTS_FILE).write_bytes(content)
    with pytest.raises(UserError, match="not an Arrow file of this project"):
        ObjectStore.open(tmp_path)


def test_a_truncated_file_is_one_line(make_store, toy_objects):
    path = make_store(toy_objects()).directory / OBJECTS_FILE
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(UserError, match="not an Arrow file of this project"):
        ObjectStore.open(path.parent)


def test_another_schema_version_is_named(tmp_path):
    schema = pa.schema([pa.field("id", pa.string())]).with_metadata({"nmt": '{"version": 99}'})
    with pa.ipc.new_file(str(tmp_path / OBJECTS_FILE), schema):
        pass
    with pytest.raises(UserError, match="schema version 99, this program reads 1"):
        ObjectStore.open(tmp_path)

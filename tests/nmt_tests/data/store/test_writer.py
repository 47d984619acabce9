import numpy as np
import pyarrow as pa

from nmt.data.store.objects import OBJECTS_FILE
from nmt.data.store.writer import RawObject


def test_jpeg_coding_keeps_a_smooth_image_within_three_grey_levels(make_store):
    size = 64
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    image = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], size), np.full((size, size), 99)], -1)
    raw = RawObject("a", "chair", "train", "a", image.astype(np.uint8), {"c0": (0.0, 0.0), "c1": (9.0, 9.0)})
    store = make_store([raw], image_coding="jpeg")
    assert np.abs(store.image(0).astype(int) - image).max() <= 3


def test_rows_of_many_record_batches_are_found(make_store, monkeypatch, toy_objects):
    monkeypatch.setattr("nmt.data.store.writer._BATCH_ROWS", 7)
    store = make_store(toy_objects())
    with pa.memory_map(str(store.directory / OBJECTS_FILE)) as file:
        assert pa.ipc.open_file(file).num_record_batches == 9
    assert [store.id(row) for row in (0, 6, 7, 59)] == [toy_objects()[row].id for row in (0, 6, 7, 59)]


def test_views_of_one_photograph_share_its_number(toy_store):
    photos = [toy_store.id(row).split("@")[0] for row in range(len(toy_store))]
    assert len(set(toy_store.photo.tolist())) == len(set(photos)) == 60
    assert len(set(zip(photos, toy_store.photo.tolist(), strict=True))) == 60

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.prepare.shards import make_shards
from nmt.data.readers.base import load
from nmt.data.readers.registry import ReadOptions
from nmt.data.readers.sources import read_voc
from nmt.data.store.objects import ObjectStore
from nmt.data.store.photographs import Photographs
from nmt.data.store.present import PHOTOGRAPHS_FILE
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import Voc, make_spair


def config(name: str = "voc", **data: object) -> Config:
    values = {"data.name": name, "data.image_size": 32} | {f"data.{key}": value for key, value in data.items()}
    return with_overrides(Config(), values, source="test")


@pytest.fixture
def raw(tmp_path) -> Path:
    """60 train photographs with one object each, one of them with two, and 4 test photographs."""
    made = Voc(tmp_path / "raw").fill(bounds=(0, 0, 30, 16))
    made.add("train", "2008_000007", bounds=(10, 0, 30, 20))
    return made.finish()


def test_the_photographs_of_train_and_val_are_stored_whole_and_once(raw, tmp_path):
    report = prepare(config(), raw=raw, out=tmp_path / "voc")
    assert report.info.num_objects == 65 and report.photographs == 60
    assert "photographs: 60 whole ones of train and val" in str(report)
    photographs, store = Photographs(tmp_path / "voc"), ObjectStore.open(tmp_path / "voc")
    num = [len(np.unique(store.photo[np.concatenate(store.rows(split))])) for split in ("train", "val")]
    assert [len(photographs.of(split)) for split in ("train", "val", "test")] == [*num, 0]
    with Image.open(raw / "VOC2011" / "JPEGImages" / "2008_000000.jpg") as image:
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), int)
    assert np.abs(photographs.image(0).astype(int) - expected).mean() < 4  # noise in JPEG at quality 95
    assert photographs.image(0).shape == (32, 32, 3)


def test_they_are_the_photographs_that_an_object_without_a_box_would_show(raw):
    source = read_voc(raw, ReadOptions(name="voc", size=32, skip_bad=False, seed=0))
    entry = source.tasks[-1]
    whole = load(type(entry)(entry.id, "cat", "train", entry.photo, entry.image, entry.points), size=32)
    (photograph,) = (p for p in source.photographs if p.name == entry.photo)
    with Image.open(photograph.image) as image:
        assert np.array_equal(whole.image, np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("changes", [{"mode": "features"}, {"mix_partner": "objects"}])
def test_they_are_stored_only_where_they_are_mixed_in(raw, tmp_path, changes):
    assert prepare(config(**changes), raw=raw, out=tmp_path / "voc").photographs == 0
    assert not (tmp_path / "voc" / PHOTOGRAPHS_FILE).exists()
    later = prepare(config(), raw=raw, out=tmp_path / "voc")
    assert not later.made and later.photographs == 60, "the objects are kept"


def test_objects_that_are_whole_photographs_need_none(tmp_path):
    report = prepare(config("spair"), raw=make_spair(tmp_path / "raw"), out=tmp_path / "spair")
    assert report.photographs == 0 and not (tmp_path / "spair" / PHOTOGRAPHS_FILE).exists()


def test_another_version_of_the_data_set_makes_them_anew(raw, tmp_path):
    prepare(config(), raw=raw, out=tmp_path / "voc")
    before = Photographs(tmp_path / "voc").image(5)
    assert prepare(config(), raw=raw, out=tmp_path / "voc").photographs == 60
    shutil.copyfile(raw / "VOC2011/JPEGImages/2008_000900.jpg", raw / "VOC2011/JPEGImages/2008_000005.jpg")
    Image.new("RGB", (40, 20)).save(raw / "VOC2011/JPEGImages/2008_000005.jpg")
    prepare(config(mix_partner="objects"), raw=raw, out=tmp_path / "voc")
    with pytest.raises(UserError, match=r"photographs\.arrow: made from another version .*--prepare voc --raw DIR"):
        Photographs(tmp_path / "voc")
    prepare(config(), raw=raw, out=tmp_path / "voc")
    assert not np.array_equal(Photographs(tmp_path / "voc").image(5), before)


def test_an_unreadable_photograph_is_left_out_with_its_objects(raw, tmp_path):
    (raw / "VOC2011/JPEGImages/2008_000003.jpg").write_bytes(b"")
    report = prepare(config(), raw=raw, out=tmp_path / "voc", skip_bad=True)
    assert report.left_out == 1 and report.photographs == 59


def test_an_interrupted_call_resumes_to_the_same_bytes(raw, tmp_path):
    prepare(config(), raw=raw, out=tmp_path / "whole")
    prepare(config(mix_partner="objects"), raw=raw, out=tmp_path / "voc")
    made: list[int] = []

    def interrupted(make_rows, shards, folder):
        for shard in make_shards(make_rows, shards, folder):
            made.append(shard)
            yield shard
            raise KeyboardInterrupt

    def counted(make_rows, shards, folder):
        made.extend(shards)
        return make_shards(make_rows, shards, folder)

    with pytest.raises(KeyboardInterrupt):
        prepare(config(), raw=raw, out=tmp_path / "voc", make=interrupted)
    assert not (tmp_path / "voc" / PHOTOGRAPHS_FILE).exists()
    prepare(config(), raw=raw, out=tmp_path / "voc", make=counted)
    assert sorted(made) == [0, 1]
    assert not list((tmp_path / "voc").glob(".partial*"))
    first, second = ((tmp_path / out / PHOTOGRAPHS_FILE).read_bytes() for out in ("whole", "voc"))
    assert first == second

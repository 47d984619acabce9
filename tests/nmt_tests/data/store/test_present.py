"""Whether the files of a data set are there, without opening them."""

from __future__ import annotations

import pytest

from nmt.data.store.arrow import ArrowTable
from nmt.data.store.objects import ObjectStore
from nmt.data.store.present import prepare_command, require_data_set, require_table
from nmt.errors import UserError
from nmt.io.cache import cache_folder


def test_a_missing_data_set_is_refused_in_the_words_of_the_store(tmp_path):
    for name in ("willow", "demo"):
        with pytest.raises(UserError) as light:
            require_data_set(str(tmp_path / name))
        with pytest.raises(UserError) as heavy:
            ObjectStore.open(tmp_path / name)
        assert str(light.value) == str(heavy.value)
        assert str(light.value).endswith(f"not there; make it with: {prepare_command(name, data=tmp_path / name)}")


def test_a_data_set_that_is_there_is_not_opened(tmp_path):
    (tmp_path / "objects.arrow").write_bytes(b"no table")
    require_data_set(str(tmp_path))
    require_table(tmp_path / "objects.arrow", remedy="")
    with pytest.raises(UserError, match="not an Arrow file of this project"):
        ArrowTable(tmp_path / "objects.arrow", remedy="")


def test_an_address_is_left_to_whoever_opens_it():
    require_data_set("s3://bucket/data/voc")
    with pytest.raises(UserError, match="bucket/objects.arrow: not there"):
        require_data_set("bucket")


def test_the_command_names_what_is_missing():
    assert prepare_command("demo") == "python run.py --prepare demo"
    assert prepare_command("voc", features="vgg16_bn") == "python run.py --prepare voc --raw DIR --features vgg16_bn"
    there = prepare_command("voc", data="s3://b/voc", settings={"data.image_size": 64})
    assert there == "python run.py --prepare voc --raw DIR --set data.image_size=64 --data s3://b/voc"
    assert prepare_command("demo", data=cache_folder() / "demo-1") == "python run.py --prepare demo", "a node's copy"

import pytest

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers.registry import SOURCES
from nmt.errors import UserError


def config(name: str, size: int = 32) -> Config:
    return with_overrides(Config(), {"data.name": name, "data.image_size": size}, source="test")


def test_an_unknown_data_set_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="--prepare wilow: no reader for such a data set; did you mean 'willow'?"):
        prepare(config("wilow"), raw=None, out=tmp_path / "data")


def test_a_raw_folder_is_asked_for_or_refused(tmp_path):
    with pytest.raises(UserError, match="--prepare willow_rotated: needs the raw data set: --raw DIR"):
        prepare(config("willow_rotated"), raw=None, out=tmp_path / "data")
    with pytest.raises(UserError, match="--prepare demo: takes no --raw"):
        prepare(config("demo"), raw=tmp_path, out=tmp_path / "data")


@pytest.mark.parametrize("name", ["willow", "willow_rotated"])
def test_an_empty_raw_folder_says_what_was_looked_for(tmp_path, name):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match=r"looked for Car/\*\.mat"):
        prepare(config(name), raw=tmp_path / "raw", out=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_every_named_source_refuses_a_wrong_request_in_one_line(tmp_path):
    for name in SOURCES:
        with pytest.raises(UserError) as error:
            prepare(config(name), raw=tmp_path / "absent", out=tmp_path / "data")
        assert "\n" not in str(error.value)

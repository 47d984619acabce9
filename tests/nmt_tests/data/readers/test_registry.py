from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers.base import Entry, RawListing
from nmt.data.readers.demo import render as demo
from nmt.data.readers.registry import (
    READERS,
    WITH_DIFFICULTY,
    ReadOptions,
    files_fingerprint,
    find_source,
    listed,
    register_reader,
)
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import SQUARE, write_image

OPTIONS = ReadOptions(name="mine", size=32, skip_bad=False, seed=0)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(READERS, "_items", {})


def test_a_reader_serves_each_name_it_is_registered_under():
    @register_reader("large")
    @register_reader("small", difficulty=True)
    def read(raw, options):
        return options.name

    assert [READERS.get(name, source="")(None, OPTIONS) for name in ("large", "small")] == ["mine", "mine"]
    assert "small" in WITH_DIFFICULTY and "large" not in WITH_DIFFICULTY
    WITH_DIFFICULTY.discard("small")


def test_a_listing_is_loaded_entry_by_entry_and_says_how_it_was_read(tmp_path):
    image = write_image(tmp_path / "a.png")
    entries = [Entry(f"cup/{k}", "cup", "train", str(k), image, SQUARE) for k in range(2)]
    source = listed(RawListing(entries=entries, files=[image]), OPTIONS, layout="large")
    assert source.options == {"layout": "large"} and source.keypoint_names() == {"cup": ["a", "b", "c"]}
    objects, left_out = source.load(source.tasks[1])
    assert [(o.id, o.image.shape) for o in objects] == [("cup/1", (32, 32, 3))] and not left_out


def test_a_damaged_image_ends_the_reading_or_is_counted(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    entry = Entry("cup/0", "cup", "train", "0", tmp_path / "bad.png", SQUARE)
    with pytest.raises(UserError, match=r"bad\.png"):
        listed(RawListing(entries=[entry]), OPTIONS).load(entry)
    skipping = ReadOptions(name="mine", size=32, skip_bad=True, seed=0)
    objects, left_out = listed(RawListing(entries=[entry]), skipping).load(entry)
    assert not objects and sum(left_out.values()) == 1


def test_the_fingerprint_changes_with_a_file(tmp_path):
    image = write_image(tmp_path / "a.png")
    source = listed(RawListing(files=[image]), OPTIONS)
    before = source.fingerprint()
    Path(image).write_bytes(b"other")
    assert source.fingerprint() != before


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
    for name in READERS.names():
        with pytest.raises(UserError) as error:
            prepare(config(name), raw=tmp_path / "absent", out=tmp_path / "data")
        assert "\n" not in str(error.value)


def test_the_fingerprint_is_that_of_folders_names_and_contents(tmp_path):
    def made(folder: str, name: str, content: bytes, *, at: str) -> str:
        path = tmp_path / at / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return files_fingerprint([path])

    first = made("cat", "1.xml", b"x", at="here")
    assert made("cat", "1.xml", b"x", at="elsewhere") == first  # a data set may move
    others = [
        made("dog", "1.xml", b"x", at="here"),
        made("cat", "2.xml", b"x", at="here"),
        made("cat", "1.xml", b"y", at="a"),
        files_fingerprint([]),
    ]
    assert len({first, *others}) == 5


def test_data_of_ones_own_with_a_misspelt_name_gets_both_hints(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match=r"as one of your own data sets; or did you mean --prepare willow\?"):
        find_source("wilow", tmp_path / "raw", size=32, skip_bad=False, seed=0, difficulty={})


def test_levels_of_difficulty_are_refused_where_pairs_are_drawn():
    with pytest.raises(UserError, match="--difficulty: demo has no given pairs; those that have: spair, spair_small"):
        find_source("demo", None, size=32, skip_bad=False, seed=0, difficulty={"mirror": [0]})


def test_a_task_of_the_demo_is_loaded_as_it_is_rendered():
    source = find_source("demo", None, size=48, skip_bad=False, seed=3, difficulty={})
    assert source.every_split and source.pairs is None and source.keypoint_names().keys() == demo.CATEGORIES.keys()
    (raw,), left_out = source.load(source.tasks[7])
    expected = demo.render_object(*source.tasks[7], size=48, seed=3)
    assert not left_out and raw.points == expected.points
    np.testing.assert_array_equal(raw.image, expected.image)

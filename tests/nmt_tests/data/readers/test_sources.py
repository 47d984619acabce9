from __future__ import annotations

import numpy as np
import pytest

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers import ap10k
from nmt.data.readers.demo import render as demo
from nmt.data.readers.registry import READERS, WITH_DIFFICULTY
from nmt.data.readers.sources import LAYOUTS, find_source
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import csv_rows, make_spair, write_csv, write_image

PLAIN = {"size": 32, "skip_bad": False, "seed": 0, "difficulty": {}}


def test_the_projects_own_readers_are_registered():
    assert READERS.names()[:6] == ["demo", "willow", "willow_rotated", "voc", "spair", "spair_small"]
    assert set(LAYOUTS) == {"spair", "spair_small"} and {"spair_u", *LAYOUTS} == WITH_DIFFICULTY
    assert READERS.names()[6:] == ["spair_u", "pf_pascal", "pf_willow", *ap10k.BENCHMARKS]


def test_a_name_without_a_reader_is_a_data_set_of_ones_own(tmp_path):
    rows = []
    for k in range(40):
        write_image(tmp_path / f"{k}.png")
        rows += csv_rows(f"{k}.png")
    write_csv(tmp_path, rows)
    source = find_source("birds", tmp_path, **PLAIN)
    assert source.keypoint_names() == {"bird": ["a", "b", "c"]} and len(source.tasks) > 30


def test_spair_says_its_layout_and_difficulty(tmp_path):
    raw = make_spair(tmp_path)
    source = find_source("spair_small", raw, **(PLAIN | {"difficulty": {"mirror": [0]}}))
    assert source.options["layout"] == "small" and source.options["difficulty"] == {"mirror": [0]}
    assert source.pairs is not None


@pytest.mark.parametrize(
    ("name", "raw", "difficulty", "message"),
    [
        (
            "willow",
            None,
            {"mirror": [0]},
            "--difficulty: willow has no given pairs with gradings; those that have: spair, spair_small",
        ),
        ("wilow", None, {}, "--prepare wilow: no reader for such a data set; did you mean 'willow'"),
        ("wilow", "absent", {}, r"as one of your own data sets; or did you mean --prepare willow\?"),
        ("demo", "absent", {}, "--prepare demo: takes no --raw"),
        ("voc", None, {}, "--prepare voc: needs the raw data set: --raw DIR"),
        ("spair_u", None, {}, "--prepare spair_u: needs the raw data set"),
        ("pf_pascal", None, {}, "--prepare pf_pascal: needs the raw data set"),
        ("pf_willow", None, {}, "--prepare pf_willow: needs the raw data set"),
        ("ap10k", None, {}, "--prepare ap10k: needs the raw data set"),
        ("pf_pascal", "absent", {"mirror": [0]}, "--difficulty: pf_pascal has no given pairs with gradings"),
        ("spair_small", None, {}, "--prepare spair_small: needs the raw data set"),
        ("willow_rotated", None, {}, "--prepare willow_rotated: needs the raw data set"),
    ],
)
def test_a_wrong_request_is_one_line(tmp_path, name, raw, difficulty, message):
    with pytest.raises(UserError, match=message) as raised:
        find_source(name, raw and tmp_path / raw, **(PLAIN | {"difficulty": difficulty}))
    assert "\n" not in str(raised.value)


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


def test_data_of_ones_own_with_a_misspelt_name_gets_both_hints(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match=r"as one of your own data sets; or did you mean --prepare willow\?"):
        find_source("wilow", tmp_path / "raw", size=32, skip_bad=False, seed=0, difficulty={})


def test_levels_of_difficulty_are_refused_where_pairs_are_drawn():
    with pytest.raises(
        UserError, match="--difficulty: demo has no given pairs with gradings; those that have: spair, spair_small"
    ):
        find_source("demo", None, size=32, skip_bad=False, seed=0, difficulty={"mirror": [0]})


def test_a_task_of_the_demo_is_loaded_as_it_is_rendered():
    source = find_source("demo", None, size=48, skip_bad=False, seed=3, difficulty={})
    assert source.every_split and source.pairs is None and source.keypoint_names().keys() == demo.CATEGORIES.keys()
    (raw,), left_out = source.load(source.tasks[7])
    expected = demo.render_object(*source.tasks[7], size=48, seed=3)
    assert not left_out and raw.points == expected.points
    np.testing.assert_array_equal(raw.image, expected.image)

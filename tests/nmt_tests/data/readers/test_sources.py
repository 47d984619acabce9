from __future__ import annotations

import pytest

from nmt.data.readers.registry import READERS, WITH_DIFFICULTY
from nmt.data.readers.sources import LAYOUTS, find_source
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import csv_rows, make_spair, write_csv, write_image

PLAIN = {"size": 32, "skip_bad": False, "seed": 0, "difficulty": {}}


def test_the_projects_own_readers_are_registered():
    assert READERS.names()[:6] == ["demo", "willow", "willow_rotated", "voc", "spair", "spair_small"]
    assert set(LAYOUTS) == WITH_DIFFICULTY == {"spair", "spair_small"}


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
            "--difficulty: willow has no given pairs; those that have: spair, spair_small",
        ),
        ("wilow", None, {}, "--prepare wilow: no reader for such a data set; did you mean 'willow'"),
        ("wilow", "absent", {}, r"as one of your own data sets; or did you mean --prepare willow\?"),
        ("demo", "absent", {}, "--prepare demo: takes no --raw"),
        ("voc", None, {}, "--prepare voc: needs the raw data set: --raw DIR"),
        ("spair_small", None, {}, "--prepare spair_small: needs the raw data set"),
        ("willow_rotated", None, {}, "--prepare willow_rotated: needs the raw data set"),
    ],
)
def test_a_wrong_request_is_one_line(tmp_path, name, raw, difficulty, message):
    with pytest.raises(UserError, match=message) as raised:
        find_source(name, raw and tmp_path / raw, **(PLAIN | {"difficulty": difficulty}))
    assert "\n" not in str(raised.value)

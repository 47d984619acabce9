"""Preparing a data set from the command line, and the flags that go together."""

from __future__ import annotations

import pytest

from nmt.data.store.objects import IMAGE_CODINGS, ObjectStore
from tests.tune_tests.cli.small_data import SMALL, write_willow
from tune.cli.main import main
from tune.cli.prepare import CODINGS

PREPARE = ["--prepare", "willow", "--raw", "raw", *SMALL]


def test_an_unreadable_image_is_named_or_left_out_and_counted(capsys, refused, tmp_path):
    write_willow(tmp_path / "raw")
    (tmp_path / "raw" / "Car" / "003.png").write_bytes(b"\x89PNG broken")
    assert "003.png" in refused(*PREPARE)
    assert not (tmp_path / "data").exists()
    assert main([*PREPARE, "--skip-bad"]) == 0
    assert "1" in capsys.readouterr().out


def test_a_category_with_one_object_is_refused(refused, tmp_path):
    write_willow(tmp_path / "raw", images=1)
    assert "Car" in refused(*PREPARE)


def test_codings_are_those_of_the_store():
    assert CODINGS == IMAGE_CODINGS


def test_a_data_set_is_made_as_the_flags_say_and_checked(capsys, tmp_path):
    write_willow(tmp_path / "raw")
    assert main([*PREPARE, "--coding", "jpeg", "--seed", "3", "--data", "elsewhere"]) == 0
    info = ObjectStore.open(tmp_path / "elsewhere").info
    assert (info.image_coding, info.seed, info.image_size) == ("jpeg", 3, 64)
    assert main(["--prepare", "willow", "--check", "--data", "elsewhere"]) == 0
    assert "every row and file is right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flag", ["--raw x", "--set data.image_size=64", "--seed 1", "--skip-bad", "--views 2", "--ray"]
)
def test_check_refuses_what_it_would_ignore(refused, flag):
    line = refused("--prepare", "willow", *flag.split(), "--check")
    assert line.startswith(f"run.py: {flag.split()[0]}: --check only reads an existing data set")


def test_views_without_features_are_refused(refused):
    assert "--views: no features are stored; add --features BACKBONE" in refused(
        *PREPARE, "--set", "data.mode=images", "--views", "2"
    )


def test_difficulty_is_refused_for_a_data_set_without_given_pairs(refused, tmp_path):
    write_willow(tmp_path / "raw")
    assert "--difficulty: willow has no given pairs" in refused(*PREPARE, "--difficulty", "mirror=0")
    assert "--difficulty mirrored=0: no such grading; did you mean 'mirror'?" in refused(
        *PREPARE, "--difficulty", "mirrored=0"
    )

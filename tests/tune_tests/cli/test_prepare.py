"""Preparing a data set from the command line, and the flags that go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.data.store.objects import IMAGE_CODINGS, ObjectStore
from tests.tune_tests.cli.own_data import write_own
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


@pytest.mark.parametrize("name", ["birds", "willow", "voc", "spair"])
@pytest.mark.parametrize(("file", "line"), [("points.csv", "give the folder that holds it"), ("a.zip", "unpack it")])
def test_a_file_instead_of_a_raw_folder_is_refused_for_every_data_set(refused, tmp_path, name, file, line):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / file).write_text("image,category,keypoint,x,y\n")
    found = refused("--prepare", name, "--raw", f"here/{file}")
    assert f"here/{file}: a" in found and line in found
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["birds", "willow", "voc", "spair"])
def test_a_raw_folder_that_is_missing_or_empty_is_named(refused, tmp_path, name):
    assert "nowhere: does not exist" in refused("--prepare", name, "--raw", "nowhere")
    (tmp_path / "empty").mkdir()
    assert refused("--prepare", name, "--raw", "empty").startswith("run.py: empty: ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["my birds", "birds/2024", "v\u00f6gel", "birds.csv", ".", "b" * 300])
def test_a_name_that_no_data_set_can_have_is_refused(refused, tmp_path, name):
    write_own(tmp_path / "raw")
    for arguments in ((), ("--raw", "raw")):
        assert "letters, digits, _ and -" in refused("--prepare", name, *arguments)
    assert "letters, digits, _ and -" in refused("--prepare", "willow", "--raw", "raw", "--set", f"data.name={name}")
    assert not (tmp_path / "data").exists()


def test_pictures_of_ones_own_need_no_recipe(capsys, refused, tmp_path):
    write_own(tmp_path / "raw")
    assert main(["--prepare", "birds", "--raw", "raw"]) == 0
    out = capsys.readouterr().out
    assert "recipe: laptop (a small head on stored features of tf_efficientnet_lite0)" in out
    assert out.splitlines()[-3:] == [
        "next: python run.py --inspect birds  # a page to look at it",
        "      python run.py --train birds    # one training",
        "      python run.py --init birds     # a file to change the recipe, and to search",
    ]
    info = ObjectStore.open(Path("data/birds")).info
    assert info.counts["train"] == {"bird": 12} and info.image_size == 192 and "clip_to_box" not in info.options
    assert main(["--prepare", "birds", "--raw", "raw"]) == 0
    assert "already up to date" in capsys.readouterr().out


def test_pairs_for_evaluation_alone_lead_to_evaluate_and_are_not_trained_on(capsys, refused, tmp_path):
    write_own(tmp_path / "raw")
    (tmp_path / "raw" / "pairs.csv").write_text("source,target\n03.png,07.png\n07.png,11.png\n")
    assert main(["--prepare", "birds", "--raw", "raw", "--set", "data.mode=images"]) == 0
    out = capsys.readouterr().out
    assert "given pairs: 0 train, 0 val, 2 test" in out and "for evaluation alone" in out
    assert out.splitlines()[-1].startswith("next: python run.py --evaluate NAME --data data/birds")
    line = refused("--train", "birds", "--set", "data.mode=images")
    assert "data/birds: is for evaluation alone, none of its pairs is in train; evaluate a model" in line


def test_a_data_set_keeps_its_image_size_where_none_is_given(capsys, refused, tmp_path):
    write_own(tmp_path / "raw")
    assert main(["--prepare", "birds", "--raw", "raw", "--set", "data.mode=images", "--set", "data.image_size=96"]) == 0
    out = capsys.readouterr().out
    assert "a small head end to end with tf_efficientnet_lite0" in out
    assert "run.py --train birds --set data.mode=images  # one training" in out and "--init" not in out
    line = refused("--train", "birds")
    assert "data/birds: holds no stored features of tf_efficientnet_lite0" in line and "--set data.mode=images" in line
    assert main(["--inspect", "birds"]) == 0
    short = ["--set", "train.epochs=1", "--set", "train.steps_per_epoch=2", "--set", "data.pairs_per_step=2"]
    capsys.readouterr()
    assert main(["--train", "birds", "--set", "data.mode=images", *short, "--set", "data.eval_pairs=2"]) == 0
    assert "training: 1 epoch of 2 steps, 2 pairs each; 12 train and 6 val objects" in capsys.readouterr().out
    assert main(["--prepare", "birds", "--raw", "raw"]) == 0  # the command that --train names
    assert "24 images of 96 x 96, already up to date" in capsys.readouterr().out
    assert main(["--train", "birds", *short, "--results", "again"]) == 0
    assert capsys.readouterr().out.startswith("recipe: laptop (a small head on stored features")


def test_clip_to_box_is_recorded_and_refused_where_it_means_nothing(refused, tmp_path):
    write_own(tmp_path / "raw")
    assert main(["--prepare", "birds", "--raw", "raw", "--set", "data.mode=images", "--clip-to-box"]) == 0
    assert ObjectStore.open(Path("data/birds")).info.options["clip_to_box"] is True
    write_willow(tmp_path / "willow")
    assert "--clip-to-box: willow is cut out as published" in refused(
        "--prepare", "willow", "--raw", "willow", "--clip-to-box"
    )
    assert "--clip-to-box: demo is cut out as published" in refused("--prepare", "demo", "--clip-to-box")

"""From raw photographs to a trained matcher by the command line alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.tune_tests.cli.own_data import write_own
from tests.tune_tests.cli.small_data import SMALL, write_willow
from tune.cli.main import main
from tune.cli.train import training_name


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("willow", "willow-train"),
        ("results/demo/best.json", "demo-best"),
        ("results/demo/trials/003/config.json", "demo-003"),
    ],
)
def test_the_directory_of_a_training_is_named_after_what_it_trains(name, directory):
    assert training_name(name) == directory


def test_prepare_train_evaluate_and_match_from_raw_photographs(capsys, refused, tmp_path):
    write_willow(tmp_path / "raw")
    assert main(["--prepare", "willow", "--raw", "raw", *SMALL]) == 0
    capsys.readouterr()
    assert main(["--train", "willow", "--dry-run", "--card", "l4", *SMALL]) == 0
    plan, memory = capsys.readouterr().out.splitlines()
    assert plan.startswith("training: ") and memory.startswith("memory: a step needs about ")
    assert memory.endswith("of the 24 GB of L4") and not Path("results").exists()
    assert main(["--train", "willow", "--json", *SMALL]) == 0
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["epoch"] in (1, 2)
    assert "already holds a training; --resume continues it" in refused("--train", "willow", *SMALL)
    assert main(["--train", "willow", "--resume", *SMALL]) == 0
    assert "no checkpoint to resume" not in capsys.readouterr().out
    assert main(["--train", "willow", "--resume", "--results", "new", *SMALL]) == 0
    assert "new/willow-train: no checkpoint to resume there, so the training begins anew" in capsys.readouterr().out

    assert main(["--evaluate", "willow-train", "--split", "test", "--json"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert set(result["mean"]) == {"NMT", "chance", "positions", "nearest features"}
    assert "reading the test split" in out and result["mean"]["chance"] == pytest.approx(0.1)
    assert result["decode"]["assignment"] == "argmax" and Path(result["picture"]).is_file()
    assert {"inter", "drop2", "drop4", "both30", "noc"} <= set(result["outliers"]["figures"])
    assert result["intervals"]["NMT"] == {} and "no interval: too few photographs of Car" in out
    assert "the test split of data/willow has been read once: willow-train on 2" in out
    assert main(["--prepare", "willow", "--check"]) == 0  # the count of readings is no part of the data set
    assert "every row and file is right" in capsys.readouterr().out
    assert "keypoints without a partner" in out and "from the checkpoint" in result["outliers"]["note"]

    Path("a.csv").write_text("name,x,y\nnose,10,20\ntail,60,30\nwheel,40,50\n")
    Path("b.csv").write_text("nose,15,22\ntail,55,31\nwheel,44,48\n")
    files = ["--images", "raw/Car/000.png", "raw/Car/001.png", "--keypoints", "a.csv", "b.csv"]
    assert main(["--match", "willow-train", *files, "--out", "m.png", "--json"]) == 0
    matches = json.loads(capsys.readouterr().out.splitlines()[-1])["matches"]
    assert set(matches) == {"nose", "tail", "wheel"} and set(matches.values()) <= {*matches, None}
    assert Image.open("m.png").size[0] > 700
    # One-to-one, which argmax over a similarity that no training has told apart is not bound to be.
    every = ["--set", "decode.assignment=hungarian", "--set", "decode.unmatched=off"]
    assert main(["--match", "willow-train", *files, *every, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])["matches"].values()) == set(matches)
    assert Path("match.png").is_file()
    Path("b.csv").write_text("nose,15\n")
    assert "b.csv, line 1: expected lines name,x,y" in refused("--match", "willow-train", *files)
    Path("b.csv").write_text("nose,15,22\ntail,900,31\n")
    assert "'tail' lies outside the image" in refused("--match", "willow-train", *files)

    changed = ["--set", "decode.assignment=hungarian", "--set", "decode.epsilon=0.5"]
    assert main(["--evaluate", "results/willow-train/best.pt", *changed, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["split"] == "val"
    assert found["decode"] == {
        "sinkhorn_iterations": 27, "epsilon": 0.5, "assignment": "hungarian", "unmatched": "off",
    }  # fmt: skip


def test_a_training_on_train_and_val_is_evaluated_on_test_alone(capsys, refused, tmp_path):
    write_willow(tmp_path / "raw")
    both = [*SMALL, "--set", "data.train_split=train+val"]
    assert main(["--prepare", "willow", "--raw", "raw", *SMALL]) == 0
    capsys.readouterr()
    assert main(["--train", "willow", "--json", *both]) == 0
    out = capsys.readouterr().out
    assert "all trained on: no validation, the last epoch's weights count" in out
    assert "epoch 2, the last: loss " in out and "val was trained on (results/willow-train/best.pt)" in out
    assert "next: python run.py --evaluate willow-train --split test" in out
    metrics = json.loads(out.splitlines()[-1])
    assert metrics["epoch"] == 2 and not any(key.startswith("val/") for key in metrics)
    assert main(["--train", "willow", "--resume", *both]) == 0
    assert main(["--evaluate", "willow-train", "--split", "test"]) == 0
    assert "no figures of keypoints without a partner: val was trained on" in capsys.readouterr().out
    assert "was trained on val too" in refused("--evaluate", "willow-train")
    assert "was trained on val too" in refused("--evaluate", "willow-train", "--split", "val")


def test_a_training_goes_on_elsewhere_from_its_storage(capsys, refused, tmp_path, bucket):
    """Its local folder is gone; `--resume` in another one finds it whole at the address."""
    write_willow(tmp_path / "raw")
    assert main(["--prepare", "willow", "--raw", "raw", *SMALL]) == 0
    train = ["--train", "willow", *SMALL, "--storage", f"{bucket}/results"]
    assert main(train) == 0
    shutil.rmtree("results")
    again = [*train, "--results", "elsewhere"]
    capsys.readouterr()
    assert "--resume continues it" in refused(*again)
    assert main([*again, "--resume"]) == 0
    assert Path("elsewhere/willow-train/best.pt").is_file()
    assert len(Path("elsewhere/willow-train/metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_real_photographs_upright_and_rotated(shared_data, tmp_path, capsys):
    raw = shared_data / "willow" / "WILLOW-ObjectClass"

    def accuracies(name: str) -> dict[str, float]:
        assert main(["--prepare", name, "--raw", str(raw)]) == 0
        assert main(["--train", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"] > 0
        assert main(["--evaluate", f"{name}-train", "--split", "test", "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]

    upright = accuracies("willow")
    assert upright["NMT"] >= 0.97 and upright["positions"] == 1.0
    rotated = accuracies("willow_rotated")
    assert rotated["NMT"] >= 0.70 and rotated["nearest features"] < 0.5 and rotated["positions"] < 0.4


def test_a_training_says_what_it_will_do_and_how_to_go_on(capsys, tmp_path):
    """Four photographs, so that none are left for the test split."""
    write_own(tmp_path / "raw", images=4, splits=("train", "train", "val", "val"))
    assert main(["--prepare", "birds", "--raw", "raw"]) == 0
    short = ["--set", "train.epochs=2", "--set", "train.steps_per_epoch=2", "--results", "r"]
    capsys.readouterr()
    assert main(["--train", "birds", *short]) == 0
    recipe, change, plan, best, after = capsys.readouterr().out.splitlines()
    assert recipe == "recipe: laptop (a small head on stored features of tf_efficientnet_lite0)"
    assert "--set KEY=VALUE" in change and change.endswith("python run.py --init birds")
    assert plan.startswith("training: 2 epochs of 2 steps, 16 pairs each; 2 train and 2 val objects; up to ")
    assert best.startswith("best epoch ")
    assert after == "next: python run.py --evaluate birds-train --results r"
    assert main(["--evaluate", "birds-train", "--results", "r"]) == 0
    capsys.readouterr()
    assert main(["--train", "birds", *short, "--resume"]) == 0
    assert "training: all 2 epochs are done" in capsys.readouterr().out

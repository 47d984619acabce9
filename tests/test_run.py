"""The command line as its users meet it: one line and exit 2 for their mistakes, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

import run

ROOT = Path(run.__file__).parent


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(capsys, *arguments: str) -> str:
    """The one line of a refused request."""
    assert run.main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("run.py: ") and captured.err.count("\n") == 1, captured.err
    return captured.err


def test_help_answers_without_importing_anything_heavy():
    done = subprocess.run([sys.executable, ROOT / "run.py", "--help"], capture_output=True, text=True, check=True)
    assert "--search NAME" in done.stdout
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "run.py", "--help"], capture_output=True, text=True, check=True
    ).stderr
    assert not {"torch", "ray", "numpy"} & {line.split("|")[-1].strip() for line in imported.splitlines()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--search", "willlow"], "did you mean 'willow'?"),
        (["--train", "demoo"], "did you mean 'demo'?"),
        (["--prepare", "imagenet"], "known: demo"),
        (["--prepare", "imagenet", "--raw", "x"], "x: does not exist; looked for *.csv"),
        (["--train", "willow", "--set", "optim.lrr=1"], "did you mean 'optim.lr'?"),
        (["--train", "willow", "--set", "optim.lr=fast"], "a number above 0 and at most 1"),
        (["--train", "willow", "--set", "optim.lr"], "KEY=VALUE"),
        (["--train", "willow", "--set", "model.d_model=130"], "nearest widths: 128, 132"),
        (["--train", "willow"], "--prepare willow --raw DIR"),
        (["--search", "willow"], "--prepare willow --raw DIR"),
        (["--prepare", "willow"], "--raw"),
        (["--prepare", "willow", "--raw", "nowhere"], "nowhere"),
        (["--evaluate", "nothing"], "no search or training there"),
        (["--evaluate", "absent.pt"], "absent.pt: no checkpoint there"),
        (["--report", "nothing"], "no search or training there"),
        (["--match", "nothing"], "--images"),
        (["--train", "absent.json"], "absent.json"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(capsys, tmp_path, arguments, message):
    assert message in refused(capsys, *arguments)
    assert not list(tmp_path.rglob("*.*")), "files were left behind"


def write_willow(raw: Path, *, categories=("Car", "Duck"), images: int = 8) -> None:
    rng = np.random.default_rng(0)
    for category in categories:
        (raw / category).mkdir(parents=True)
        for k in range(images):
            Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(raw / category / f"{k:03}.png")
            scipy.io.savemat(raw / category / f"{k:03}.mat", {"pts_coord": rng.uniform(5, 55, (2, 10))})


SMALL = [
    "--set", "data.image_size=64", "--set", "data.eval_pairs=4", "--set", "data.pairs_per_step=2",
    "--set", "model.weights=random", "--set", "model.d_model=16", "--set", "model.decoder_layers=1",
    "--set", "train.epochs=2", "--set", "train.steps_per_epoch=2", "--set", "optim.milestones=[1]",
]  # fmt: skip


def test_an_unreadable_image_is_named_or_left_out_and_counted(capsys, tmp_path):
    write_willow(tmp_path / "raw")
    (tmp_path / "raw" / "Car" / "003.png").write_bytes(b"\x89PNG broken")
    prepare = ["--prepare", "willow", "--raw", "raw", *SMALL]
    assert "003.png" in refused(capsys, *prepare)
    assert not (tmp_path / "data").exists()
    assert run.main([*prepare, "--skip-bad"]) == 0
    assert "1" in capsys.readouterr().out


def test_a_category_with_one_object_is_refused(capsys, tmp_path):
    write_willow(tmp_path / "raw", images=1)
    assert "Car" in refused(capsys, "--prepare", "willow", "--raw", "raw", *SMALL)


def test_prepare_train_evaluate_and_match_from_raw_photographs(capsys, tmp_path):
    write_willow(tmp_path / "raw")
    assert run.main(["--prepare", "willow", "--raw", "raw", *SMALL]) == 0
    assert run.main(["--train", "willow", "--json", *SMALL]) == 0
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["epoch"] in (1, 2)
    assert "--resume" in refused(capsys, "--train", "willow", *SMALL)
    assert run.main(["--train", "willow", "--resume", *SMALL]) == 0
    capsys.readouterr()

    assert run.main(["--evaluate", "willow-train", "--split", "test", "--json"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert set(result["mean"]) == {"NMT", "chance", "positions", "nearest features"}
    assert "reading the test split" in out and result["mean"]["chance"] == pytest.approx(0.1)

    Path("a.csv").write_text("name,x,y\nnose,10,20\ntail,60,30\nwheel,40,50\n")
    Path("b.csv").write_text("nose,15,22\ntail,55,31\nwheel,44,48\n")
    files = ["--images", "raw/Car/000.png", "raw/Car/001.png", "--keypoints", "a.csv", "b.csv"]
    assert run.main(["--match", "willow-train", *files, "--out", "m.png", "--json"]) == 0
    matches = json.loads(capsys.readouterr().out.splitlines()[-1])["matches"]
    assert set(matches) == {"nose", "tail", "wheel"} and set(matches.values()) <= set(matches)
    assert Image.open("m.png").size[0] > 700
    Path("b.csv").write_text("nose,15\n")
    assert "b.csv:1: expected name,x,y" in refused(capsys, "--match", "willow-train", *files)
    Path("b.csv").write_text("nose,15,22\ntail,900,31\n")
    assert "'tail' lies outside the image" in refused(capsys, "--match", "willow-train", *files)


def test_a_training_goes_on_elsewhere_from_its_storage(capsys, tmp_path, bucket):
    """Its local folder is gone; `--resume` in another one finds it whole at the address."""
    write_willow(tmp_path / "raw")
    assert run.main(["--prepare", "willow", "--raw", "raw", *SMALL]) == 0
    train = ["--train", "willow", *SMALL, "--storage", f"{bucket}/results"]
    assert run.main(train) == 0
    shutil.rmtree("results")
    again = [*train, "--results", "elsewhere"]
    capsys.readouterr()
    assert "--resume goes on with it" in refused(capsys, *again)
    assert run.main([*again, "--resume"]) == 0
    assert Path("elsewhere/willow-train/best.pt").is_file()
    assert len(Path("elsewhere/willow-train/metrics.jsonl").read_text().splitlines()) == 2


def test_a_dry_run_prints_the_plan_and_changes_nothing(capsys, tmp_path):
    write_willow(tmp_path / "raw")
    features = ["--set", "data.mode=features", "--set", "model.backbone=tf_efficientnet_lite0"]
    assert run.main(["--prepare", "willow", "--raw", "raw", *SMALL, *features]) == 0
    Path("small.toml").write_text(
        '[base]\ndata = { name = "willow", mode = "features" }\nmodel = { heads = 2 }\n'
        '[space]\n"optim.lr" = { low = 1e-4, high = 1e-2 }\n'
    )
    dry = ["--search", "small.toml", "--dry-run", "--data", "data/willow", *SMALL, *features]
    before = {(path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert run.main([*dry, "--trials", "3"]) == 0
    out = capsys.readouterr().out
    assert "until 3 trials" in out and " at once" in out and "written" in out
    assert "nowhere/objects.arrow: not there" in refused(capsys, *dry, "--data", "nowhere")
    assert {(path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_real_photographs_upright_and_rotated(shared_data, tmp_path, capsys):
    raw = shared_data / "willow" / "WILLOW-ObjectClass"

    def accuracies(name: str) -> dict[str, float]:
        assert run.main(["--prepare", name, "--raw", str(raw)]) == 0
        assert run.main(["--train", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"] > 0
        assert run.main(["--evaluate", f"{name}-train", "--split", "test", "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]

    upright = accuracies("willow")
    assert upright["NMT"] >= 0.97 and upright["positions"] == 1.0
    rotated = accuracies("willow_rotated")
    assert rotated["NMT"] >= 0.70 and rotated["nearest features"] < 0.5 and rotated["positions"] < 0.4

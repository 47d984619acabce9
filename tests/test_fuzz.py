"""Damaged folders through the whole command line: done, or refused in one line, and never a traceback.

2,200 folders of all readers go through --prepare. Those that are read go through --check, some of them through
--inspect and one step of --train. 300 pairs of damaged images and keypoint files go through --match. Seeds are fixed.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import run
from tests.fuzzing import damage
from tests.nmt_tests.data.readers.own import own_sets, tools
from tests.nmt_tests.data.readers.raw_sets import (
    SQUARE,
    Voc,
    coco,
    csv_rows,
    make_spair,
    make_willow,
    write_csv,
    write_image,
)

pytestmark = pytest.mark.slow

FOLDERS, PAIRS, INSPECTED, TRAINED = 200, 300, 3, 15
"""damaged folders of each reader; damaged pairs of --match; of so many prepared folders, one is inspected, trained"""


def _table(root: Path) -> None:
    own_sets.images(root, 12)
    write_csv(root, [row for k in range(12) for row in csv_rows(f"{k}.jpg")])


def _list(root: Path) -> None:
    own_sets.images(root, 12)
    own_sets.write_json(root, own_sets.objects(12))


def _coco(root: Path) -> None:
    for split in ("train2017", "val2017"):
        own_sets.images(root, 6, split)
        own_sets.write_json(root, coco(6), f"annotations/person_keypoints_{split}.json")


def _of_tool(write: Callable[[Path, list[tools.Labelled]], object]) -> Callable[[Path], object]:
    def make(root: Path) -> None:
        own_sets.images(root, 12)
        write(root, tools.birds(12))

    return make


def _voc(root: Path) -> None:
    Voc(root).fill(60).finish()


SETS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "table": ("own", _table),
    "list": ("own", _list),
    "coco": ("own", _coco),
    "labelme": ("own", _of_tool(tools.write_labelme)),
    "label_studio": ("own", _of_tool(tools.write_label_studio)),
    "deeplabcut": ("own", _of_tool(tools.write_dlc)),
    "cvat": ("own", _of_tool(tools.write_cvat)),
    "cub": ("own", _of_tool(tools.write_cub)),
    "voc": ("voc", _voc),
    "spair": ("spair", make_spair),
    "willow": ("willow", make_willow),
}
"""what is damaged -> (data set, function that makes the whole folder)"""

SMALL = (
    "data.mode=images",
    "data.image_size=32",
    "data.pairs_per_step=2",
    "data.eval_pairs=2",
    "model.backbone=tf_efficientnet_lite0",
    "model.weights=random",
    "model.d_model=24",
    "model.heads=3",
    "model.decoder_layers=1",
    "optim.milestones=[]",
    "train.epochs=1",
    "train.steps_per_epoch=1",
)


def command(*arguments: str | Path) -> int:
    """Run one job; return its exit code, and fail unless it is 0, or 2 with one line."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        status = run.main([str(argument) for argument in arguments])
    lines = [line for line in errors.getvalue().splitlines() if line and "%|" not in line]  # no progress bars
    assert status in (0, 2), (status, lines)
    assert len(lines) <= 2 and all(len(line) < 1000 for line in lines), lines
    (printed.getvalue() + errors.getvalue()).encode()
    assert status == 0 or lines, "refused without a word"
    return status


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Name the damage in the error of a failed command."""
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_folder_is_used_or_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_set, make = SETS[name]
    whole = tmp_path / "whole"
    whole.mkdir()
    make(whole)
    sets = [word for key in SMALL for word in ("--set", key)]
    prepared = 0
    for seed in range(FOLDERS):
        raw, data = tmp_path / "raw", tmp_path / "data" / data_set
        shutil.copytree(whole, raw, symlinks=True)
        rng = random.Random(f"{name}{seed}")
        with told(f"{name}, seed {seed}: {damage(raw, rng)}"):
            flags = ["--skip-bad"] if seed % 2 else []
            status = command("--prepare", data_set, "--raw", raw, "--data", data, *sets, *flags)
            assert data.exists() == (status == 0)
            if status == 0:
                prepared += 1
                assert command("--prepare", data_set, "--data", data, "--check") == 0
                if prepared % INSPECTED == 0:
                    assert command("--inspect", data_set, "--data", data, *sets) == 0
                if prepared % TRAINED == 0:
                    assert command("--train", data_set, "--data", data, *sets) == 0
        for folder in (raw, data, tmp_path / "results"):
            shutil.rmtree(folder, ignore_errors=True)
    assert prepared > FOLDERS // 5, "nearly every folder was refused: the damage is too great to test what follows"


def test_damaged_inputs_of_match_are_used_or_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _table(tmp_path / "birds")
    sets = [word for key in SMALL for word in ("--set", key)]
    assert command("--prepare", "birds", "--raw", tmp_path / "birds", *sets) == 0
    assert command("--train", "birds", *sets) == 0
    whole = tmp_path / "whole"
    whole.mkdir()
    for k, suffix in enumerate(("jpg", "png")):
        write_image(whole / f"{k}.{suffix}")
    (whole / "0.csv").write_text("name,x,y\n" + "".join(f"{name},{x},{y}\n" for name, (x, y) in SQUARE.items()))
    (whole / "1.json").write_text(json.dumps({name: list(xy) for name, xy in SQUARE.items()}))
    matched = 0
    for seed in range(PAIRS):
        given = tmp_path / "given"
        shutil.copytree(whole, given)
        with told(f"seed {seed}: {damage(given, random.Random(seed))}"):
            images, keypoints = (given / "0.jpg", given / "1.png"), (given / "0.csv", given / "1.json")
            status = command(
                "--match", "birds-train", "--images", *images, "--keypoints", *keypoints, "--out", "pair.png"
            )
        matched += status == 0
        shutil.rmtree(given)
    assert PAIRS // 10 < matched < PAIRS, "all or nearly none were matched: the damage tests nothing"

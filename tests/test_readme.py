"""The Python blocks of README.md: their names exist, and the first one runs."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmt.config import Config, to_dict
from nmt.data.store.objects import ObjectStore
from tests.paths import ROOT
from tests.small_model import write_checkpoint
from tune.cli.main import main
from tune.results.summary import Summary, TrialRecord


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


SNIPPET = python_blocks(ROOT / "docs/api_snippet.md")
BLOCKS = python_blocks(ROOT / "README.md")


@pytest.mark.parametrize("block", [*BLOCKS, *SNIPPET])
def test_every_name_of_the_api_exists(block: str) -> None:
    names = re.findall(r"\b(nmt|tune)\.([a-zA-Z_]\w*)", block)
    assert names
    for package, name in names:
        assert name in importlib.import_module(package).__all__, f"{package}.{name}"


def test_the_first_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    write_results(tmp_path / "results/demo")
    for name in ("A.jpg", "B.jpg"):
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[0], "README.md", "exec"), {"__name__": "__main__"})
    assert re.match(r"source +target +raw score\n\w+ +\w+ +-?\d\.\d\d\n", capsys.readouterr().out)


def test_a_first_block_is_five_lines() -> None:
    assert len([line for line in SNIPPET[0].splitlines() if line.strip()]) == 5


def own_pictures(page: str) -> tuple[str, list[list[str]]]:
    """The table of a page's own pictures, and the arguments of the commands after it."""
    text = (ROOT / page).read_text()
    section = re.search(r"^## Your own \w+\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert section is not None, page
    rows = re.search(r"^ *image,category,keypoint,x,y.*\n(?: *\S+,.*\n)+", section[1], re.MULTILINE)
    assert rows is not None, page
    called = re.findall(r"^python run.py (.*)$", section[1], re.MULTILINE)
    return textwrap.dedent(rows[0]), [shlex.split(line, comments=True) for line in called]


def write_pictures(folder: Path, table: str) -> None:
    """birds/points.csv as it stands, and the pictures that it names."""
    (folder / "birds/images").mkdir(parents=True)
    (folder / "birds/points.csv").write_text(table)
    for number, name in enumerate(sorted({line.split(",")[0] for line in table.splitlines()[1:]})):
        noise = np.random.default_rng(number).integers(0, 256, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "birds/images" / name)


def test_the_table_of_own_pictures_is_prepared_word_for_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    table, commands = own_pictures("README.md")
    assert [arguments[0] for arguments in commands] == ["--prepare", "--init", "--search", "--match"]
    write_pictures(tmp_path, table)
    monkeypatch.chdir(tmp_path)
    assert main([*commands[0], "--json"]) == 0
    out = capsys.readouterr().out
    assert "data/birds: 4 images of 192 x 192" in out and "left out" not in out
    assert Path(json.loads(out.splitlines()[-1])["features"][0]).is_file()
    counts = ObjectStore.open(tmp_path / "data/birds").info.counts
    assert (counts["train"], counts["val"]) == ({"robin": 2}, {"robin": 2})


def test_getting_started_has_the_same_table_and_commands() -> None:
    table, commands = own_pictures("README.md")
    again, more = own_pictures("docs/getting_started.md")
    assert again == table and more[: len(commands)] == commands


def write_results(directory: Path) -> None:
    """A search whose only trial has weights."""
    write_checkpoint(directory / "trials/000/best.pt")
    trial = TrialRecord(
        id="000",
        state="COMPLETE",
        searched={},
        configuration=to_dict(Config()),
        best={"epoch": 1, "val/accuracy": 0.5},
        last={"epoch": 1, "val/accuracy": 0.5},
        accuracy_fixed_decode=0.5,
        epochs=1,
        seconds=1.0,
        seed=0,
        checkpoint="trials/000/best.pt",
        reason=None,
    )
    summary = Summary(
        name="demo",
        description="",
        data="data/demo",
        space={},
        search={"sampler": "tpe", "scheduler": "asha", "seed": 0},
        resources={"gpus": 0.0, "workers": 1},
        epochs=1,
        seconds=1.0,
        trials=(trial,),
    )
    summary.save(directory)

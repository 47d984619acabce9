"""The Python blocks of README.md: their names exist, and the first one runs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmt.config import Config, to_dict
from tests.paths import ROOT
from tests.small_model import write_checkpoint
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
    assert re.match(r"\w+ -> \w+  -?\d\.\d\d\n", capsys.readouterr().out)


def test_a_first_block_is_five_lines() -> None:
    assert len([line for line in SNIPPET[0].splitlines() if line.strip()]) == 5


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
        search={},
        resources={"gpus": 0.0, "workers": 1},
        epochs=1,
        seconds=1.0,
        trials=(trial,),
    )
    summary.save(directory)

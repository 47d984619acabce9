"""`--export` from the command line: a repository that matches, and requests that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.small_model import write_checkpoint
from tune.cli.main import main


def test_a_checkpoint_becomes_a_repository_that_the_same_jobs_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(Path("birds/best.pt"))
    assert main(["--export", "birds/best.pt", "--hub", "repository", "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("repository/model.safetensors: ") and json.loads(last)["card"] == "repository/README.md"
    assert "# birds" in Path("repository/README.md").read_text()
    assert main(["--export", "repository/model.safetensors", "--hub", "again"]) == 0
    for name in ("model.safetensors", "config.json"):
        assert (Path("again") / name).read_bytes() == (Path("repository") / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent/best.pt"], "absent/best.pt: no checkpoint there"),
        (["best.pt", "--hub", "a", "--out", "b"], "--hub writes a repository of its own; leave out --format and --out"),
        (["best.pt", "--format", "tflite"], "--format must be onnx or torch, but got 'tflite'"),
        (["best.pt", "--out", "best.pt"], "best.pt: is a file; give a folder to write to"),
        (["best.pt"], "best.pt: "),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("best.pt").write_bytes(b"no checkpoint")
    assert main(["--export", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and [p.name for p in tmp_path.iterdir()] == ["best.pt"]

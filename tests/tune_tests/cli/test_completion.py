"""--completion: what the Tab key offers, asked of the program and of a real bash."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from tune.cli.completion import COMPLETE, candidates
from tune.cli.main import JOBS, main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """A working directory with results, a prepared data set and a recipe of one's own."""
    for name in ("results/demo", "results/demo-train", "elsewhere/other", "data/birds", "data/raw", "search_spaces"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/birds/objects.arrow").touch()
    (tmp_path / "search_spaces/finches.toml").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nmt --se", ["--search", "--serve"]),
        ("nmt --v", ["--version"]),
        ("nmt x --rep", ["--report"]),
        ("nmt --search voc_", ["voc_ablation", "voc_dino", "voc_features", "voc_small"]),
        ("nmt --search f", ["finches"]),
        ("nmt --train b", ["birds"]),
        ("nmt --search b", []),
        ("nmt --train results/demo/b", []),
        ("nmt --report ", ["demo", "demo-train"]),
        ("nmt --results elsewhere --report ", ["other"]),
        ("nmt --results absent --report ", []),
        ("nmt --init ", []),
        ("nmt --download ", ["voc", "spair", "willow"]),
        ("nmt --keys model.spl", ["model.spline", "model.spline_backend"]),
        ("nmt --completion ", ["bash", "zsh", "fish"]),
        ("nmt --search demo --res", ["--results", "--resume"]),
        ("nmt --search demo --resume --res", ["--results"]),
        ("nmt --search demo --set optim.lr=1 --se", ["--set", "--seeds", "--seed"]),
        ("nmt --search demo --trials ", []),
        ("nmt --search demo --storage s3://x/y --trial", ["--trials"]),
        ("nmt --evaluate demo --split ", ["val", "test"]),
        ("nmt --match demo --images A.jpg ", []),
        ("nmt --match demo --images A.jpg B.jpg --k", ["--keypoints"]),
        ("nmt --train demo --set optim.l", ["optim.lr=", "optim.layer_decay="]),
        ("nmt --train demo --set data.mode=", ["data.mode=features", "data.mode=images"]),
        ("nmt --train demo --set model.spline=t", ["model.spline=true"]),
        ("nmt --train demo --set optim.lr=", []),
        ("nmt --evaluate demo --set opt", []),
        ("nmt --evaluate demo --set decode.e", ["decode.epsilon="]),
        ('nmt --search "de', ["demo"]),
    ],
)
def test_what_the_last_word_may_become(line: str, words: list[str]) -> None:
    assert candidates(line, JOBS) == words


@pytest.mark.parametrize("job", JOBS)
def test_every_flag_of_every_job_is_offered(job: str) -> None:
    offered = candidates(f"nmt {job} x ", JOBS)
    assert [*dict.fromkeys(offered)] == [*JOBS[job].reads, "--help"] and candidates(f"nmt {job}", JOBS)[0] == job


def test_a_question_is_answered_with_a_line_a_word_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([COMPLETE, "nmt --report "]) == 0
    assert main([COMPLETE, "nmt --init "]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("demo\ndemo-train\n", "")


def test_another_shell_is_refused(refused) -> None:
    assert "--completion must be bash or zsh or fish, but got 'csh'" in refused("--completion", "csh")


def test_the_tab_key_in_bash(folder: Path) -> None:
    """An interactive bash, typed into: a job, its name, a key and its value, a flag, and a file name at the end."""
    program = folder / "bin/nmt"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/run.py" "$@"\n')
    program.chmod(0o755)
    (folder / "pictures.csv").touch()
    steps = {
        "nmt --trai": "nmt --train ",
        "fin": "finches ",
        "--set model.spline_b": "--set model.spline_backend=",
        "mat": "matmul ",
        "--resum": "--resume ",
        "--data pict": "pictures.csv ",
    }
    driver, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 300))  # a longer line would scroll
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ "}
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    try:
        os.write(driver, b'eval "$(nmt --completion bash)"; PS1="re""ady "\n')
        read_until(driver, "\nready ")
        for typed, shown in steps.items():
            os.write(driver, f"{typed}\t".encode())
            read_until(driver, shown)
    finally:
        shell.kill()
        shell.wait()
        os.close(driver)


def read_until(driver: int, text: str) -> None:
    """Read what the shell prints until `text` has come."""
    printed, end = "", time.monotonic() + 60
    while text not in printed:
        assert select.select([driver], [], [], max(0, end - time.monotonic()))[0], f"no {text!r} in {printed!r}"
        printed += os.read(driver, 4096).decode().replace("\r", "")

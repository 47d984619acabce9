"""The printed commands: right when copied, from whatever the process was started with."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import nmt.commands
from nmt.commands import command, interpreter, program, program_name, quoted


def test_default_folders_are_left_out() -> None:
    assert command("--evaluate", "x", results="results", data="data/x", data_set="x") == "python run.py --evaluate x"
    assert command("--evaluate", "x", results=Path("results"), data=Path("data/x/"), data_set="x").endswith("x")


def test_other_folders_are_carried_and_quoted() -> None:
    text = command(
        "--evaluate", "x", "--split", "test", results="my runs", data="data/y", data_set="x", storage="s3://b"
    )
    assert text == "python run.py --evaluate x --split test --data data/y --results 'my runs' --storage s3://b"
    assert command("--report", "x", data="data/x").endswith("--data data/x"), "the default is not known"
    assert shlex.split(quoted("tensorboard", "--logdir", Path("it's $HOME")))[2] == "it's $HOME"


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, as that of an environment, that is not on the path; the working directory is above."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".venv/bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    (folder / "nmt").write_text("#!/bin/sh\n")
    (folder / "nmt").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


def test_an_environment_that_is_not_active_is_named_by_its_path(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interpreter() == ".venv/bin/python", "another python comes first on the path, a link to the same file"
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    assert interpreter() == "python"
    monkeypatch.chdir(sys.prefix)
    monkeypatch.setenv("PATH", "/nowhere")
    assert interpreter() == str(bin_folder / "python")
    monkeypatch.chdir(bin_folder)
    assert interpreter() == "./python"


def test_the_console_script_is_spelt_as_the_shell_finds_it(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(bin_folder / "nmt"), "--report", "x"])
    assert command("--report", "x") == ".venv/bin/nmt --report x" and program_name() == "nmt"
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    assert command("--report", "x") == "nmt --report x"


def test_a_process_of_another_program_gets_the_script_beside_the_package(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(nmt.commands.__file__).parents[1] / "run.py"
    (tmp_path / "run.py").write_text("print('a script of the user')")
    for started in ("notebook.py", "run.py", ""):
        monkeypatch.setattr(sys, "argv", [started])
        assert program() == [".venv/bin/python", str(script)]
    monkeypatch.setattr(nmt.commands, "__file__", str(tmp_path / "site-packages/nmt/commands.py"))
    assert program() == [".venv/bin/nmt"], "an installed package has no run.py"


def test_a_printed_command_runs(tmp_path: Path) -> None:
    """The words of a process with a path of its own, run by a shell."""
    root = Path(nmt.commands.__file__).parents[1]
    spelt = "import sys; sys.argv[0] = 'run.py'; from nmt.commands import command; print(command('--help'))"
    environment = {"PATH": "/usr/bin:/bin"}
    printed = subprocess.run(
        [sys.executable, "-c", spelt], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    ran = subprocess.run(printed.stdout, shell=True, cwd=root, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and "--search NAME" in ran.stdout, printed.stdout + ran.stderr

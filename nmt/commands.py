"""Spell the commands that messages and reports print, so that they are right when they are copied.

A command names the interpreter and the program that this process was started with. It carries the folders that are not
the default ones, and everything is quoted for the shell.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

SCRIPT = "run.py"
CONSOLE = "nmt"
"""name of the console script of an installed package"""
RESULTS = "results"
DATA = "data"
"""default folders below the working directory, of --results and of all data sets"""


def command(
    job: str,
    *words: str | Path,
    results: str | Path | None = None,
    data: str | Path | None = None,
    data_set: str | None = None,
    storage: str | None = None,
) -> str:
    """Spell a command of this program.

    Args:
        job: flag of the job with its two dashes, such as --evaluate.
        words: the job's NAME, then more flags and values.
        results: folder for --results, left out where it is the default; None for a job that does not read it.
        data: folder or address for --data, left out where it is the default.
        data_set: name of the data set of the job's configuration. The default folder of --data is data/`data_set`.
            None: not known, so `data` is always spelt.
        storage: value of --storage, if the results live there.
    """
    places: list[str | Path] = []
    if data is not None and (data_set is None or Path(data) != Path(DATA, data_set)):
        places += ["--data", data]
    if results is not None and Path(results) != Path(RESULTS):
        places += ["--results", results]
    if storage is not None:
        places += ["--storage", storage]
    return quoted(*program(), job, *words, *places)


def download_command(name: str, raw: str | Path) -> str:
    """Spell the command that downloads a published raw data set into the folder `raw`."""
    return command("--download", name, *([] if Path(raw) == Path(DATA, "raw", name) else ["--raw", raw]))


def tool(name: str) -> str:
    """Return the word that starts a program of the interpreter's environment, such as tensorboard."""
    program = Path(sys.executable).with_name(name)
    return _on_path(name, program) or (_shown(program) if program.exists() else name)


def quoted(*words: str | Path) -> str:
    """Join words to a command of another program, each quoted for the shell."""
    return shlex.join(map(str, words))


def program_name() -> str:
    """Return the name that messages begin with: run.py, or nmt where its console script was started."""
    return CONSOLE if _started().stem == CONSOLE else SCRIPT


def program() -> list[str]:
    """Return the words that start this program again: python run.py, .venv/bin/python run.py, nmt.

    A process that neither has started, such as a notebook, gets the run.py beside the package if there is one.
    """
    started, script = _started(), Path(__file__).resolve().parents[1] / SCRIPT
    if started.stem == CONSOLE:
        return [_on_path(CONSOLE, started) or _shown(started)]
    if started.name == SCRIPT and (not started.exists() or started.resolve() == script):
        return [interpreter(), str(started)]
    if script.is_file():
        return [interpreter(), os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)]
    console = Path(sys.executable).with_name(CONSOLE)
    return [_on_path(CONSOLE, console) or (_shown(console) if console.exists() else CONSOLE)]


def interpreter() -> str:
    """Return the Python that runs this process: by its name where the shell finds it, else by its path."""
    mine = Path(sys.executable)
    return _on_path("python", mine) or _on_path("python3", mine) or _shown(mine)


def _started() -> Path:
    return Path(sys.argv[0] if sys.argv else "")


def _on_path(name: str, program: Path) -> str | None:
    """Return the name if the shell finds this very program by it; None otherwise.

    The folders are compared too: the interpreters of all environments are links to one file.
    """
    found = shutil.which(name)
    if found is None or Path(found).parent.resolve() != program.absolute().parent.resolve():
        return None
    return name if program.exists() and os.path.samefile(found, program) else None


def _shown(program: Path) -> str:
    """Return the path of a program: relative where it lies below the working directory."""
    program = program.absolute()
    if not program.is_relative_to(Path.cwd()):
        return str(program)
    short = str(program.relative_to(Path.cwd()))
    return short if os.sep in short else os.path.join(".", short)

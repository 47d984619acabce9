"""One row a measurement in tests/bench/RESULTS.md: a bench that is run with --record calls `record` at its end.

from record import record

record({"cold match": "2.1 s", "warm match": "31 ms a pair"})
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("RESULTS.md")

COLUMNS = ("date", "machine", "versions", "commit", "command", "figures")
HEAD = f"""# Measurements

One row a measurement, written by the benches of this folder when they are run with `--record`. Load is that of the
machine at the end, in processes that want to compute; above 1 for every two cores, only processor times compare. A
commit with a `+` had changes that were not committed.

| {" | ".join(COLUMNS)} |
|{" --- |" * len(COLUMNS)}
"""


def record(figures: Mapping[str, str], *, command: str | None = None) -> None:
    """Append a measurement to RESULTS.md.

    Args:
        figures: what was measured -> the figure with its unit.
        command: command that measures it again; by default that of this process, without --record.
    """
    if not figures:
        raise ValueError("a measurement without a figure")
    text = "; ".join(f"{name} {figure}" for name, figure in figures.items())
    cells = [time.strftime("%Y-%m-%d"), machine(), versions(), commit(), f"`{command or own_command()}`", text]
    row = " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    with RESULTS.open("a") as file:
        # One write, to a file opened for appending: a bench that is stopped leaves no half row.
        file.write(f"{'' if file.tell() else HEAD}| {row} |\n")
    print(f"recorded in {RESULTS}")


def own_command() -> str:
    """Return the command line of this process, with paths below the project relative to it."""
    words = ["python", *sys.argv]
    inside = [os.path.relpath(word, ROOT) if Path(word).is_absolute() and _below(word) else word for word in words]
    return shlex.join(word for word in inside if word != "--record")


def _below(word: str) -> bool:
    return Path(word).resolve().is_relative_to(ROOT)


def machine() -> str:
    """Return the processor, the cores this process may use, the GPUs and the load."""
    import torch

    cores = len(os.sched_getaffinity(0))
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    shown = [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)] or ["no GPU"]
    return ", ".join([_processor(), f"{cores} cores", *shown, f"load {os.getloadavg()[0]:.1f}"])


def _processor() -> str:
    """Return the name of the processor as Linux knows it, else the kind of machine."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> str:
    """Return the versions of torch and of Python."""
    import torch

    return f"torch {torch.__version__}, Python {platform.python_version()}"


def commit() -> str:
    """Return the commit of the project, with a + where files other than the results have changed since.

    A copy of the project without its history has none.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!tests/bench/RESULTS.md")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "not known"

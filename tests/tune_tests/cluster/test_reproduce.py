"""cluster/reproduce.sh: its commands exist, and with --small it runs, is interrupted, continues and then rests."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tune.cli.job import given_flags, parse
from tune.cli.main import check_flags, find_job

SCRIPT = ROOT / "cluster" / "reproduce.sh"
COMMANDS = re.findall(r"^\s*python run\.py (.+)$", SCRIPT.read_text().replace("\\\n", ""), re.MULTILINE)
SECONDS = 900
"""a run takes one to four minutes"""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_uses_flags_that_exist(command: str) -> None:
    words = shlex.split(re.sub(r"\$(seeds?|trials|top|repeats)\b", "3", command).replace("$", ""))
    job = find_job(words)
    assert job is not None
    check_flags(job, given_flags(words))
    parse(job, words)


def test_the_commands_are_the_steps_in_their_order() -> None:
    jobs = [command.split()[0] for command in COMMANDS]
    assert jobs == [
        *("--download", "--prepare", "--prepare", "--train", "--evaluate", "--search", "--confirm", "--report")
    ]


@pytest.mark.parametrize("words", [[], ["willow"], ["voc", "--smal"], ["--small", "voc"]], ids=" ".join)
def test_another_request_is_refused_before_anything_is_done(tmp_path: Path, words: list[str]) -> None:
    ran = subprocess.run(
        ["bash", SCRIPT, *words], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2 and not ran.stdout
    assert ran.stderr == "usage: bash cluster/reproduce.sh voc|spair [--small]\n"


def _hear_interrupts() -> None:
    """Undo that a shell lets the processes of its background jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Host:
    """Runs the script as on a host whose virtual environment is that of the tests, with its files in a folder."""

    def __init__(self, folder: Path, script: Path, *words: str) -> None:
        self.command = ["bash", str(script), *words]
        self.results = folder / "results"
        self.environment = os.environ | {
            "VIRTUAL_ENV": sys.prefix,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATA": str(folder / "data"),
            "RESULTS": str(self.results),
        }

    def run(self, *, interrupt_at: str | None = None) -> tuple[int, str]:
        """Run the script to its end, or until it prints a word, and then press Ctrl-C; return status and output."""
        process = subprocess.Popen(
            self.command, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_hear_interrupts,
        )  # fmt: skip
        lines: list[str] = []
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if interrupt_at is not None and interrupt_at in line:
                    os.killpg(process.pid, signal.SIGINT)
                    interrupt_at = None
            status = process.wait(timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return status, "".join(lines)

    def results_by_content(self) -> dict[str, str]:
        """File -> hash of its content, of all that says what was found."""
        kinds = ("best.pt", "metrics.jsonl", "*.md", "evaluation-*.json", "summary.json", "confirm.json", "best.json")
        files = [path for kind in kinds for path in self.results.rglob(kind)]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.long
def test_small_voc_is_interrupted_continues_and_then_changes_nothing(shared_data: Path, tmp_path: Path) -> None:
    host = Host(tmp_path, ROOT / "cluster" / "reproduce_voc.sh", "--small")
    status, out = host.run(interrupt_at="published/1/voc_small-train: no checkpoint")
    assert status != 0, out
    assert "5 of 8" not in out and not (host.results / "table.md").exists()
    kept = host.results_by_content()
    assert any("published/0" in name for name in kept)

    status, out = host.run(interrupt_at=" s  00")  # the first event of a trial
    assert status != 0, out
    assert "6 of 8: search" in out and "7 of 8" not in out
    status, out = host.run()
    assert status == 0, out
    assert "all 2 epochs are done" in out
    found = host.results_by_content()
    assert kept.items() <= found.items()
    table = (host.results / "table.md").read_text()
    assert re.search(r"^\| mean \| \d+\.\d ± \d+\.\d \| \d+\.\d \| \d+\.\d \| \d+\.\d \|$", table, re.MULTILINE)
    assert "steps on train+val" in table
    assert "| person | " in table and "3 trials" in table and "Confirmation of voc_small" in table

    status, out = host.run()
    assert status == 0, out
    assert host.results_by_content() == found


@pytest.mark.long
def test_small_spair_reaches_its_table(shared_data: Path, tmp_path: Path) -> None:
    host = Host(tmp_path, SCRIPT, "spair", "--small")
    status, out = host.run()
    assert status == 0, out
    table = (host.results / "table.md").read_text()
    assert re.findall(r"^\| (\w+) \| \d+\.\d ±", table.partition("PCK")[0], re.MULTILINE) == [
        "bottle",
        "car",
        "motorbike",
        "mean",
    ]

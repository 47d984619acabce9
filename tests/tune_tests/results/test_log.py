from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.errors import UserError
from tests.paths import ROOT
from tune.results.log import kept_in, log, to_console


def test_console_prints_the_message_alone_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    to_console()
    to_console()
    log.info("  1.0 s  000  waits")
    logging.getLogger("nmt.training").info("Interrupted.")
    logging.getLogger("ray").error("not ours")
    assert capsys.readouterr().out == "  1.0 s  000  waits\nInterrupted.\n"


def test_file_keeps_all_lines_of_its_time_and_goes_on_when_opened_again(tmp_path: Path) -> None:
    log.info("before")
    with kept_in(tmp_path):
        log.info("one")
    log.info("between")
    with kept_in(tmp_path):
        log.info("two\nlines")
    log.info("after")
    text = (tmp_path / "search.log").read_text()
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text) == "TIME  one\nTIME  two\nlines\n"


def test_a_search_within_a_search_is_kept_in_both_files(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    with kept_in(tmp_path):
        log.info("whole")
        with kept_in(tmp_path / "stage"):
            log.info("stage")
    assert "stage" in (tmp_path / "search.log").read_text()
    assert "whole" not in (tmp_path / "stage" / "search.log").read_text()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"file/search.log: cannot be written .*choose another --results"),
        kept_in(tmp_path / "file"),
    ):
        pass


def test_a_full_disk_leaves_lines_out_and_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "search.log").symlink_to("/dev/full")
    with kept_in(tmp_path):
        log.info("lost")
    assert "Traceback" not in capsys.readouterr().err


CLOSED = """
import logging, sys
from pathlib import Path
from tune.results.log import kept_in, log, to_console

to_console()
with kept_in(Path(sys.argv[1])):
    for number in range(20000):
        log.info("line %d", number)
print("the end")
"""


def test_work_continues_when_nobody_reads_the_lines_any_more(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-c", CLOSED, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert (tmp_path / "search.log").read_text().splitlines()[-1].endswith("line 19999")


STRANGE = """
import sys
from pathlib import Path
from tune.results.log import kept_in, log, replace_unknown_characters
with kept_in(Path(sys.argv[1])):
    log.info("| α ± ε | \\udcff |")
    log.info("| a - e | b |")
replace_unknown_characters()
print("α ±", file=sys.stderr)
print("× —")
"""


@pytest.mark.parametrize(
    ("encoding", "line"), [("ascii", "| ? ? ? | ? |"), ("latin-1", "| ? ± ? | ? |"), ("utf-8", "| α ± ε | ? |")]
)
def test_a_terminal_that_lacks_characters_shows_others_of_the_same_width(
    tmp_path: Path, encoding: str, line: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", STRANGE, str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}, capture_output=True, check=True,
    )  # fmt: skip
    shown = ran.stdout.decode(encoding).splitlines()
    assert shown[:2] == [line, "| a - e | b |"]
    assert shown[2] == "× —".encode(encoding, "replace").decode(encoding)
    assert ran.stderr.decode(encoding) == "α ±\n".encode(encoding, "replace").decode(encoding)
    assert "| α ± ε | \\udcff |" in (tmp_path / "search.log").read_text("utf-8")

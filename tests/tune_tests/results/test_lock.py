"""One process at a time in a folder of results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tune.results.lock import LockedError, only_one

HOLD = """
import sys, time
from pathlib import Path
from tune.results.lock import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_in_use_is_refused_and_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "toy"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            with pytest.raises(LockedError, match=f"{folder}: another process runs a search here"), only_one(folder):
                pytest.fail("both work in the folder")
            with only_one(tmp_path / "results" / "other"):
                pass
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    with only_one(folder):
        pass


def test_a_folder_is_free_after_an_error_and_taken_within_one_process_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_one(tmp_path):
        _ = 1 / 0
    with only_one(tmp_path), pytest.raises(LockedError), only_one(tmp_path):
        pytest.fail("both work in the folder")

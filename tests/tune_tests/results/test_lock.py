from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.io.files import file_lock
from tests.paths import ROOT
from tune.results.lock import LockedError, only_one

HOLDER = """
import sys, time; from pathlib import Path; from tune.results.lock import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True); time.sleep(600)
"""


def test_lock_of_a_process_holds_until_the_process_is_killed(tmp_path: Path) -> None:
    directory = tmp_path / "results" / "tiny"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with (
        pytest.raises(LockedError, match="another process runs a search here; wait for it or stop it"),
        only_one(directory),
    ):
        pass
    holder.kill()
    holder.wait()
    for _ in range(2):
        with only_one(directory):
            pass


def test_lock_holds_against_another_thread_and_is_freed_by_an_error(tmp_path: Path) -> None:
    refused: list[str] = []

    def try_it() -> None:
        try:
            with only_one(tmp_path):
                pass
        except LockedError as error:
            refused.append(str(error))

    with pytest.raises(KeyError), only_one(tmp_path):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        raise KeyError
    try_it()
    assert len(refused) == 1


@pytest.mark.parametrize("place", ["file", "/proc/results"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    directory = tmp_path / place / "tiny"
    with (
        pytest.raises(UserError, match=rf"{place}/tiny: cannot be written \(.*\); choose another --results"),
        only_one(directory),
    ):
        pass
    assert os.listdir(tmp_path) == ["file"]


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


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems without locks, such as NFS without its lock service: none can be mounted here."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


LEAVE_MARKER = """
import os, sys, filelock
lock = filelock.SoftFileLock(sys.argv[1])
lock.acquire()
os.kill(os.getpid(), 9)
"""


def test_a_file_system_without_locks_has_a_marker_that_ends_with_its_process(
    without_locks: None, tmp_path: Path
) -> None:
    marker = tmp_path / ".lock.held"
    with only_one(tmp_path):
        assert str(os.getpid()) in marker.read_text()
        with pytest.raises(LockedError, match=f"another process runs.* remove {marker}"), only_one(tmp_path):
            pytest.fail("both work in the folder")
    assert not marker.exists()
    leave = (
        "import os, sys, filelock; lock = filelock.SoftFileLock(sys.argv[1]); lock.acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", leave, str(marker)], check=False)
    assert marker.exists()
    deadline = time.monotonic() + 60
    while True:
        try:
            with only_one(tmp_path):
                break
        except LockedError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_a_folder_of_data_that_cannot_be_locked_is_one_line(without_locks: None, tmp_path: Path) -> None:
    told = r"x.lock: cannot be locked \(.*\); use a folder"
    with pytest.raises(UserError, match=told) as caught, file_lock(tmp_path / "x.lock"):
        pytest.fail("it is not locked")
    assert "\n" not in str(caught.value)

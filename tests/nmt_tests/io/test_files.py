import json
import os
import subprocess
import sys

import pytest

from nmt.errors import UserError
from nmt.io import files
from nmt.io.files import atomic_output
from tests.paths import ROOT


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == '{\n  "a": 1\n}\n' and os.listdir(tmp_path) == ["x.json"]


def fail_half_way(path):
    with atomic_output(path) as partial:
        partial.write_text("half")
        _ = 1 / 0


def test_output_is_renamed_at_the_end_and_removed_on_error(tmp_path):
    path = tmp_path / "file"
    with atomic_output(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError):
        fail_half_way(path)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be written .No space left"), atomic_output(tmp_path / "file"):
        raise OSError(28, "No space left on device")


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    kept = ["a.pt", ".hidden", "b.partial", "deep/.c.pt.0a1b.partial"]
    for name in (*kept, ".a.pt.0123abcd.partial", ".b.json.ffff.partial"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files.remove_partials(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)


def test_json_is_indented_and_ends_its_line(tmp_path):
    files.write_json(tmp_path / "deep" / "x.json", {"ä": [1, None]})
    text = (tmp_path / "deep" / "x.json").read_text()
    assert json.loads(text) == {"ä": [1, None]} and text.endswith("}\n") and text.count("\n") == 6


def test_an_output_folder_stays_where_the_work_succeeds_and_goes_where_it_fails(tmp_path):
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "there" / "a" / "b", tmp_path / "new" / "c"):
        with pytest.raises(KeyboardInterrupt), files.output_folder(out):
            raise KeyboardInterrupt
        assert not out.parent.exists() and out.parent.parent.exists()
        with files.output_folder(out):
            (out / "file").touch()
        assert (out / "file").is_file()
    with pytest.raises(ZeroDivisionError), files.output_folder(tmp_path / "there" / "a" / "b"):
        _ = 1 / 0
    assert (tmp_path / "there" / "a" / "b" / "file").is_file()  # it was there before


def test_a_failed_work_leaves_a_folder_that_somebody_else_uses(tmp_path):
    with pytest.raises(ZeroDivisionError), files.output_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "theirs").touch()
        _ = 1 / 0
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["theirs"]


def test_a_folder_below_a_file_cannot_be_made_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="file/out: cannot be made .Not a directory.$"),
        files.output_folder(tmp_path / "file" / "out"),
    ):
        pass
    with (
        pytest.raises(UserError, match="file/lock: cannot be made .* is the folder writable"),
        files.file_lock(tmp_path / "file" / "lock"),
    ):
        pass


COUNT = """
import sys
from pathlib import Path
from nmt.io.files import file_lock
folder = Path(sys.argv[1])
for _ in range(20):
    with file_lock(folder / ".lock"):
        number = int((folder / "number").read_text())
        (folder / "number").write_text(str(number + 1))
"""


def test_processes_that_hold_the_lock_take_turns_and_leave_nothing(tmp_path):
    (tmp_path / "number").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "60"
    assert [p.name for p in tmp_path.iterdir()] == ["number"]


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from nmt.io.files import file_lock\n"
        "with file_lock(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / ".lock")], cwd=ROOT, timeout=60)
    assert done.returncode == -9 and (tmp_path / ".lock").exists()
    with files.file_lock(tmp_path / ".lock"):
        pass
    assert not (tmp_path / ".lock").exists()

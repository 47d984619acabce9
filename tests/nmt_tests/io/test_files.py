import os

import pytest

from nmt.errors import UserError
from nmt.io import files
from nmt.io.files import atomic_output


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

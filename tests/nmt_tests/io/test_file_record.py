"""Size and hash of a file, against the command that everybody has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nmt.io.file_record import FileRecord, record


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 5000])
def test_a_record_is_what_sha256sum_prints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert record(path) == FileRecord(len(content), printed)


def test_a_file_that_changes_at_equal_size_has_another_record(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = record(path)
    path.write_bytes(b"two")
    after = record(path)
    assert before.bytes == after.bytes and before != after

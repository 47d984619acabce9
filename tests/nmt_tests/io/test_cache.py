from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.io.cache import cache_folder, make_folder


def test_the_cache_is_where_the_variable_says_and_else_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_CACHE", "/scratch/nmt")
    assert cache_folder() == Path("/scratch/nmt")
    monkeypatch.setenv("HOME", "/home/someone")
    for empty in (lambda: monkeypatch.setenv("NMT_CACHE", ""), lambda: monkeypatch.delenv("NMT_CACHE")):
        empty()
        assert cache_folder() == Path("/home/someone/.cache/nmt")


def test_a_cache_that_cannot_be_made_is_one_line_that_names_the_variable(tmp_path: Path) -> None:
    make_folder(tmp_path / "nmt" / "weights")
    make_folder(tmp_path / "nmt" / "weights")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made .*; set NMT_CACHE to a folder that can be written") as error:
        make_folder(tmp_path / "file" / "weights")
    assert "\n" not in str(error.value) and (tmp_path / "nmt/weights").is_dir()

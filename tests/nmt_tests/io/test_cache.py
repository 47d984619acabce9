from __future__ import annotations

from pathlib import Path

import pytest

from nmt.io.cache import cache_folder


def test_the_cache_is_where_the_variable_says_and_else_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_CACHE", "/scratch/nmt")
    assert cache_folder() == Path("/scratch/nmt")
    monkeypatch.setenv("HOME", "/home/someone")
    for empty in (lambda: monkeypatch.setenv("NMT_CACHE", ""), lambda: monkeypatch.delenv("NMT_CACHE")):
        empty()
        assert cache_folder() == Path("/home/someone/.cache/nmt")

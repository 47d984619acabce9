"""What the tests of the command line share: an empty working folder, and a refused request."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tune.cli.main import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    """The one line of a refused request."""

    def ask(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("run.py: ") and captured.err.count("\n") == 1, captured.err
        assert not captured.out
        return captured.err

    return ask

"""What a study says about where it comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tune.driver.provenance import git_commit


def test_the_commit_is_known_and_changed_sources_are_marked(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    assert git_commit(tmp_path) is None  # no commit yet
    (tmp_path / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "results").write_text("not of the sources")
    assert git_commit(tmp_path) == commit
    (tmp_path / "a.py").write_text("2")
    assert git_commit(tmp_path) == f"{commit}+"

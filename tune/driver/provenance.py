"""What a study was made from, as its attributes: people read them in Optuna's dashboard, years later."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.config import to_dict
from nmt.data.store.ready import ReadyData
from tune.spaces.space import Space

GIT_SECONDS = 10.0
"""longest time that git has to answer"""


def study_attributes(space: Space, data: ReadyData, versions: Mapping[str, str], sources: Path) -> dict[str, Any]:
    """Return the attributes of the study of a search.

    Args:
        space: the search.
        data: its data set.
        versions: of the packages, and of this project.
        sources: folder with the sources of this project.
    """
    commit = git_commit(sources)
    return {
        "description": space.description,
        "data_set": {"name": space.base.data.name, "place": data.given, "identity": data.identity},
        "recipe": to_dict(space.base),
        "versions": dict(versions),
        **({"commit": commit} if commit else {}),
    }


def git_commit(folder: Path) -> str | None:
    """Return the git commit of a folder of sources, with "+" after it if files were changed; None if it has none."""
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):  # no git, or a folder of another user: the versions have a hash
        return None

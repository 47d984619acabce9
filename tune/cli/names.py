"""The names that a job's NAME may have here, for the completion of a shell."""

from __future__ import annotations

from pathlib import Path

from nmt.config import SETTINGS
from nmt.data.store.present import OBJECTS_FILE
from nmt.recipes import recipe_names


def results(folder: Path) -> list[str]:
    """List the searches and trainings below the folder of --results."""
    return _folders(folder)


def recipes(folder: Path) -> list[str]:
    """List the recipes."""
    return recipe_names()


def recipes_and_data(folder: Path) -> list[str]:
    """List the recipes, and the prepared data sets below data/ that have none."""
    data = Path("data")
    return sorted({*recipe_names(), *(name for name in _folders(data) if (data / name / OBJECTS_FILE).is_file())})


def keys(folder: Path) -> list[str]:
    """List the branches and the keys of the configuration."""
    return sorted({*SETTINGS, *(key.partition(".")[0] for key in SETTINGS), "search", "resources"})


def new(folder: Path) -> list[str]:
    """List nothing: the name is the user's to choose."""
    return []


def _folders(parent: Path) -> list[str]:
    try:
        return sorted(path.name for path in parent.iterdir() if path.is_dir())
    except OSError:
        return []

"""Check that the files of a data set exist, before anything heavy is imported.

The readers of the files raise these same messages; the command line asks first, so that a wrong name costs no seconds.
"""

from __future__ import annotations

from pathlib import Path

from nmt.errors import UserError
from nmt.io.address import is_address

OBJECTS_FILE = "objects.arrow"
PHOTOGRAPHS_FILE = "photographs.arrow"
"""beside the objects where they are cut out of photographs (nmt/data/store/photographs.py)"""


def prepare_command(name: str, *, features: str | None = None) -> str:
    """Return the command that makes a data set, or its table of features, for error messages."""
    raw = "" if name == "demo" else " --raw DIR"
    return f"python run.py --prepare {name}{raw}" + (f" --features {features}" if features else "")


def require_table(path: Path, *, remedy: str) -> None:
    """Raise UserError with the command that makes the file, `remedy`, unless the file is there."""
    if not path.is_file():
        raise UserError(f"{path}: not there; make it with: {remedy}")


def require_data_set(data: str) -> None:
    """Raise UserError with the command that makes the data set, unless it is there.

    A data set at an address (s3://bucket/x) is not asked for: that takes a connection, which opening it makes.
    """
    if not is_address(data):
        require_table(Path(data) / OBJECTS_FILE, remedy=prepare_command(Path(data).name))

"""Read a variable of a .mat file, which comes from a download: SciPy's reader runs nothing that the file holds."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import scipy.io

from nmt.data.readers.base import REMEDY
from nmt.errors import UserError, one_line
from nmt.io.user_files import is_file

_HDF5 = b"\x89HDF\r\n\x1a\n"
"""begins a file of MATLAB 7.3, at its first byte or after 512"""


def read_numbers(file: Path, name: str, *, data_set: str) -> np.ndarray:
    """Read the variable that holds the keypoints of an image.

    Args:
        file: the .mat file.
        name: the variable.
        data_set: name of the data set, for the message where it is missing.

    Returns:
        Its values; text and other things that are no numbers have a `dtype.kind` other than i, u and f.

    Raises:
        UserError: no such file or variable, or one that SciPy cannot read.
    """
    if not is_file(file):
        raise UserError(f"{file}: not a file; {REMEDY}")
    try:
        return np.asarray(scipy.io.loadmat(str(file), variable_names=[name])[name])
    except KeyError:
        raise UserError(f"{file}: no variable {name}; {data_set} keeps the keypoints in it") from None
    except Exception as error:  # scipy raises whatever the damaged bytes lead it to
        raise UserError(f"{file}: {_why_unreadable(file, name, error)}") from error


def _why_unreadable(file: Path, name: str, error: Exception) -> str:
    """Say what is wrong with a .mat file that SciPy cannot read, and what to do."""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        head = opened.read(512 + len(_HDF5))
        if head.startswith((_HDF5, b"MATLAB 7.3")) or head.endswith(_HDF5):
            return f"a file of MATLAB 7.3, which is not read; save it in MATLAB with: save(FILE, '{name}', '-v7')"
    return f"not a readable .mat file ({one_line(error)}); {REMEDY}"

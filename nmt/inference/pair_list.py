"""A list of pairs to match: a CSV file with the columns image0, keypoints0, image1 and keypoints1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nmt.errors import UserError
from nmt.inference.inputs import read_image
from nmt.inference.match import FilePair, read_pair
from nmt.io.spreadsheet import Table, read_table
from nmt.io.user_files import shown_path

COLUMNS = ("image0", "keypoints0", "image1", "keypoints1")
MOST_TOLD = 3
"""bad lines that an error explains"""


def read_pair_list(path: Path) -> list[FilePair]:
    """Read the pairs of a CSV file, and check each of them: no matcher is needed, and nothing is written.

    Args:
        path: the first line names the columns, each further line is a pair. Paths are relative to the file's folder.

    Raises:
        UserError: it cannot be read, holds no pair, or lines in it are bad; the first of them are named.
    """
    table = read_table(path)
    rows = list(table.records(COLUMNS))
    if not rows:
        raise UserError(f"{shown_path(path)}: no pairs in it; below {','.join(COLUMNS)}, each line is a pair")
    # An image often stands in several lines, one below the other.

    @functools.lru_cache(maxsize=4)
    def read(image: Path) -> np.ndarray:
        return read_image(image, source=str(image))

    pairs, bad = [], list[str]()
    for line, cells in rows:
        try:
            pairs.append(_pair(table, cells, read))
        except UserError as error:
            bad.append(f"line {line}: {error}")
    if bad:
        more = f"; and {len(bad) - MOST_TOLD} more bad lines" if len(bad) > MOST_TOLD else ""
        raise UserError(f"{shown_path(path)}, {'; '.join(bad[:MOST_TOLD])}{more}")
    return pairs


def _pair(table: Table, cells: dict[str, str], read: Callable[[Path], np.ndarray]) -> FilePair:
    for column in COLUMNS:
        if not cells[column]:
            raise UserError(f"no {column}")
    paths = [table.file.parent / Path(cells[column]).expanduser() for column in COLUMNS]
    return read_pair((paths[0], paths[2]), (paths[1], paths[3]), read=read)

"""The folder that `--match --pairs` writes: a table of all matches, and a picture of each pair."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.errors import TemporaryError, UserError
from nmt.io.files import output_folder
from nmt.io.user_files import is_file, is_folder, shown_path

if TYPE_CHECKING:
    from nmt.inference.match import FilePair
    from nmt.inference.matches import Matches

TABLE = "matches.csv"
COLUMNS = ("pair", "image0", "image1", "source", "target", "confidence")


def check_folder(out: Path) -> None:
    """Check, before any work, that a folder can be written. Raises UserError."""
    if is_file(out):
        raise UserError(f"{shown_path(out)}: is a file; --pairs writes a folder, give one with --out")
    above = next(folder for folder in (out, *out.absolute().parents) if is_folder(folder))
    if not os.access(above, os.W_OK):
        raise UserError(f"{shown_path(out)}: {shown_path(above)} is not writable; write elsewhere with --out")


class PairFolder:
    """Writes the matches of the pairs of a list, one after another.

    Args:
        folder: where the files are collected.
        out: where they will be.
        pairs: the list.
    """

    def __init__(self, folder: Path, out: Path, pairs: Sequence[FilePair]) -> None:
        self.table = out / TABLE
        self._folder, self._pairs, self._number = folder, pairs, 0
        self._text = io.StringIO(newline="")
        self._rows = csv.writer(self._text)
        self._rows.writerow(COLUMNS)

    def add(self, matches: Matches) -> None:
        """Draw the next pair, and add its rows: the matches, then the unmatched of both sides with an empty cell."""
        from PIL import Image

        pair, self._number = self._pairs[self._number], self._number + 1
        start = (self._number, *map(str, pair.images))
        found = matches.to_dict()
        for row in found["rows"]:
            self._rows.writerow((*start, row["source"], row["target"], f"{row['confidence']:.4f}"))
        for name in found["unmatched0"]:
            self._rows.writerow((*start, name, "", ""))
        for name in found["unmatched1"]:
            self._rows.writerow((*start, "", name, ""))
        Image.fromarray(matches.draw()).save(self._folder / picture_name(self._number, len(self._pairs)), "PNG")

    def close(self) -> None:
        """Write the table."""
        (self._folder / TABLE).write_text(self._text.getvalue(), encoding="utf-8", newline="")


def picture_name(number: int, count: int) -> str:
    """Return the file name of a pair's picture; the names are in the order of the pairs."""
    return f"pair-{number:0{max(3, len(str(count)))}d}.png"


@contextlib.contextmanager
def writing(out: Path, pairs: Sequence[FilePair]) -> Iterator[PairFolder]:
    """Write into a folder beside, whose files take their place in `out` at the end of the block, and not on an error.

    Raises:
        UserError: a picture would replace one of the images of the list.
        TemporaryError: the disk is full or the folder not writable.
    """
    names = {picture_name(number + 1, len(pairs)) for number in range(len(pairs))}
    for image in (image for pair in pairs for image in pair.images):
        if image.name in names and image.resolve().parent == out.resolve():
            raise UserError(f"{shown_path(image)}: is one of the images to read; write elsewhere with --out")
    try:
        with output_folder(out):
            partial = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=out))
            try:
                folder = PairFolder(partial, out, pairs)
                yield folder
                folder.close()
                for path in sorted(partial.iterdir()):
                    path.replace(out / path.name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise TemporaryError(
            f"{shown_path(out)}: cannot be written ({error.strerror or error}); free space, or write elsewhere with "
            "--out"
        ) from error

"""One annotation file of the user's, and what its format needs to turn it into entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nmt.data.readers.base import FEW_KEYPOINTS, Entry, Excluded
from nmt.data.readers.own.image_files import ImageFiles, NoImageError
from nmt.data.readers.own.splits import as_split
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.errors import UserError
from nmt.io.user_files import shown_path

OBJECT = "object"
"""category of objects to which their format gives none"""
NO_KEYPOINTS = "images without keypoints"
UNLABELLED = "annotations without keypoints"

MakeEntry = Callable[[], Entry]
"""makes one object's entry; damage to one object raises there, and leaves the others"""


@dataclass(frozen=True)
class Source:
    """One annotation file, parsed, with the images that it may name."""

    file: Path
    content: Any
    """the parsed JSON, or the `Table`"""
    images: ImageFiles
    split: str = ""
    """split that the file's name gives; empty: none"""
    clip_to_box: bool = False
    """cut COCO's objects at their box; otherwise the box is enlarged to hold the labelled keypoints"""
    notes: list[str] = field(default_factory=list)
    """lines for the report, which a format may append to"""
    splits_seen: set[str] = field(default_factory=set)
    """splits that objects of all files have, those included that are left out later"""
    files: list[Path] = field(default_factory=list)
    """annotation files that were read; a format that reads more than one appends them"""

    @property
    def shown_file(self) -> str:
        """Return the file's path for messages."""
        return shown_path(self.file)

    def note(self, line: str) -> None:
        """Append a line to the report, once."""
        if line not in self.notes:
            self.notes.append(line)

    def without_category(self, format_name: str) -> str:
        """Return the category of an object without one, and note it."""
        self.note(f"{format_name}: objects without a category have the category {OBJECT}")
        return OBJECT

    def read_split(self, value: object, where: str) -> str:
        """Read an object's split: its own, or else the one that the file's name gives; empty: none.

        Call it before anything that may refuse the object, so that a split whose images are lost is not made anew.

        Raises:
            UserError: no such split.
        """
        split = as_split(value, where) or self.split
        self.splits_seen.add(split)
        return split

    def image(self, name: object, where: str) -> tuple[str, Path]:
        """Find an image by its name in this file: the photograph's name, and the file. Raises UserError."""
        return self.images.find(name, where, beside=self.file, folders=SPLIT_FOLDERS.get(self.split, ()))

    def first_image(self, names: Sequence[object], where: str) -> tuple[str, Path]:
        """Find an image by the first of several names that fits one; the error is that of the first name.

        A missing image ends the search if its folder holds images: one of its file name elsewhere is another image.

        Args:
            names: at least one; the likeliest first.
            where: file and field, which an error begins with.

        Raises:
            UserError: none of the names fits an image.
        """
        first: UserError | None = None
        for name in names:
            try:
                return self.image(name, where)
            except UserError as error:
                first = first or error
                if isinstance(error, NoImageError) and self.images.has_folder_of(name):
                    break
        raise first or UserError(f"{where}: names no image")


def check_enough(points: Mapping[str, tuple[float, float]]) -> None:
    """Raise Excluded for an object with too few keypoints; its image, which nobody needs, may be missing.

    Args:
        points: keypoint name -> (x, y), pixels.
    """
    if len(points) < MIN_KEYPOINTS:
        raise Excluded(FEW_KEYPOINTS)


class Format(Protocol):
    """A format of annotations: a module of this package with these three names."""

    NAME: str
    """what messages call it"""

    def recognises(self, content: Any) -> bool:
        """Return True for content of this format, whole or damaged."""
        ...

    def entries(self, source: Source) -> Iterator[MakeEntry]:
        """Yield a function per object of a file. Raises UserError for a file that is damaged as a whole."""
        ...


SPLIT_FOLDERS = {
    "train": ("train", "images/train", "train/images", "training", "trn"),
    "val": ("val", "images/val", "val/images", "valid", "images/valid", "valid/images", "validation"),
    "test": ("test", "images/test", "test/images", "testing"),
}
"""split -> folders that may hold its images"""

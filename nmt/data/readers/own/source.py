"""One annotation file of the user's, and what its format needs to turn it into entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nmt.data.readers.base import Entry
from nmt.data.readers.own.image_files import ImageFiles
from nmt.data.readers.own.splits import as_split

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
    "train": ("train", "images/train", "training", "trn"),
    "val": ("val", "images/val", "valid", "images/valid", "validation"),
    "test": ("test", "images/test", "testing"),
}
"""split -> folders that may hold its images"""

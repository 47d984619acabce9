"""Find the image that an annotation names, among the files that are really there.

Names travel badly. macOS composes letters in another way, Windows ignores case and writes backslashes, and labelling
tools write folders of their own. A name that fits no file as it stands is looked up without these differences.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from nmt.errors import UserError
from nmt.io.user_files import is_file, is_link, listed, same_text, shown, shown_path, visible_files

_FORMATS = ("jpg", "jpeg", "jpe", "jp2", "png", "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm", "heic", "avif")
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _FORMATS)


class NoImageError(UserError):
    """An annotation names an image that is not there."""


class ImageFiles:
    """The images below a raw folder.

    Args:
        raw: the folder.
    """

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self._spelled: dict[Path, str] = {}

    def find(self, value: object, where: str, *, beside: Path, folders: Sequence[str] = ()) -> tuple[str, Path]:
        """Find an image by the name that an annotation gives.

        Args:
            value: the name, perhaps with folders.
            where: file and field, which an error begins with.
            beside: the annotation file; images of its name (person_keypoints_train2017.json -> train2017/) and of its
                own folder are preferred. Where such a folder holds images, a bare name is not looked for elsewhere: an
                image that is missing there must not become another of its name.
            folders: more folders below `raw` where images may lie.

        Returns:
            The photograph's name, which is its path below the raw folder without `images/`; and the file.

        Raises:
            UserError: no name of a file inside the folder, no such image, or the second spelling of one.
        """
        name = relative_name(value, where)
        own = self._own_folders(beside, folders)
        path = self._exact(name, own) or self._alike(name, own, where)
        if path is None:
            raise NoImageError(f"{where}: no image {shown(name)} below {shown_path(self.raw)}{self._hint(name)}")
        if self._spelled.setdefault(path, name) != name:
            raise UserError(
                f"{where}: {shown(name)} and {shown(self._spelled[path])} are one photograph, {shown_path(path)}; "
                "use one spelling"
            )
        return self._photo(path), path

    @property
    def some(self) -> bool:
        """True if there is an image."""
        return bool(self._files)

    def has_folder_of(self, name: object) -> bool:
        """Return True for a name with a folder that holds images."""
        folder = PurePosixPath(plain_name(name)).parent if isinstance(name, str) else PurePosixPath()
        return folder != PurePosixPath() and any(place / folder in self._folders for place in self._usual)

    def _own_folders(self, beside: Path, folders: Sequence[str]) -> list[Path]:
        """List the folders where an annotation file's own images may lie."""
        of_file = beside.stem.rpartition("_")[2]  # person_keypoints_train2017.json -> train2017
        own = [*(self.raw / folder for folder in folders), self.raw / of_file, self.raw / "images" / of_file]
        return own if beside.parent == self.raw else [*own, beside.parent]

    @property
    def _usual(self) -> list[Path]:
        return [self.raw / "images", self.raw, self.raw / "data"]

    def _exact(self, name: str, own: Sequence[Path]) -> Path | None:
        # A link that leads nowhere is there, and reading it names the fault; another file of its name is not meant.
        places = (place / name for place in (*own, *self._usual))
        return next((path for path in places if is_file(path) or is_link(path)), None)

    def _alike(self, name: str, own: Sequence[Path], where: str) -> Path | None:
        """Find the one file that differs in case, composition or, for a bare name, in its folder."""
        for place in (*own, *self._usual):
            found = self._index.get(name_key((place / name).relative_to(self.raw).as_posix()), [])
            if len(found) == 1:
                return found[0]
        found = self._by_name.get(name_key(name), [])
        if not self._folders.isdisjoint(own):
            found = [path for path in found if any(path.is_relative_to(place) for place in own)]
        if len(found) > 1:
            names = listed(shown_path(path.relative_to(self.raw)) for path in found)
            raise UserError(f"{where}: {shown(name)} may be {names}; write the folder too")
        return found[0] if found else None

    def _hint(self, name: str) -> str:
        """Name an image of the same stem or the same file name, if there is one; else nothing."""
        stem = PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name
        close = self._by_stem.get(name_key(PurePosixPath(stem).name), [])
        if not close:
            none = "" if self._index else ", which holds no images"
            return f"{none}; put it there, or --skip-bad leaves its object out"
        found = shown(self._photo(close[0]))
        return f"; there is {found}: if it is meant, write the name as it is, with folder and extension"

    def _photo(self, path: Path) -> str:
        return same_text(path.relative_to(self.raw).as_posix()).removeprefix("images/")

    @functools.cached_property
    def _files(self) -> list[Path]:
        return [path for path in visible_files(self.raw, "*", below=True) if path.suffix.lower() in IMAGE_SUFFIXES]

    @functools.cached_property
    def _folders(self) -> set[Path]:
        return {path.parent for path in self._files}

    @functools.cached_property
    def _index(self) -> dict[str, list[Path]]:
        return _grouped({path: path.relative_to(self.raw).as_posix() for path in self._files})

    @functools.cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _grouped({path: path.name for path in self._files})

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        return _grouped({path: path.stem for path in self._files})


def relative_name(value: object, where: str) -> str:
    """Check the name of an image, perhaps with folders, and that it stays inside the raw folder. Raises UserError."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise UserError(f"{where} must be the name of a file, but is {shown(value)}")
    if "://" in value:
        raise UserError(f"{where} is an address, {shown(value)}; download the images and write their file names")
    path = PurePosixPath(plain_name(value))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(
            f"{where} must lie in the folder itself, but is {shown(value)}; write its path below the raw folder"
        )
    return str(path)


def plain_name(name: str) -> str:
    """Return what the names of an image have in common that differ in composition, slashes and `./` alone."""
    return str(PurePosixPath(same_text(name.strip()).replace("\\", "/")))


def name_key(name: str) -> str:
    """Return what the names of an image have in common that differ in case too; see `plain_name`."""
    return plain_name(name).casefold()


def _grouped(names: dict[Path, str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path, name in names.items():
        groups.setdefault(name_key(name), []).append(path)
    return groups

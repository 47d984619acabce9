"""Data sets at an address (s3://bucket/x, gs://bucket/x, any of pyarrow.fs): one copy a node, verified.

Whoever opens a data set at an address gets the folder of its copy, so that all processes of a node map the same pages.
The files of a data set are named, with size and hash, by its manifest, which is written last: an address without one
has no data set yet. Copies lie below $NMT_CACHE, or ~/.cache/nmt; they are made under a lock, go on where a connection
broke, and are verified before they get their name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path, PosixPath

from nmt.data.store.manifest import MANIFEST_FILE, parse_manifest
from nmt.data.store.present import OBJECTS_FILE
from nmt.errors import UserError
from nmt.io.file_record import FileRecord
from nmt.io.files import file_lock, write_json
from nmt.io.location import Location

CACHE_VARIABLE = "NMT_CACHE"
LOCK_FILE = ".copy.lock"

_ADDRESS = re.compile(r"(?!file:)([a-z][a-z0-9+]+):/{1,2}([^/].*)", re.DOTALL)


class Address(PosixPath):
    """The address of a data set where a folder could stand. A path has no two slashes in a row, `str` has them here."""

    def __str__(self) -> str:
        return "{}://{}".format(*parts) if (parts := _parts(super().__str__())) else super().__str__()

    def resolve(self, strict: bool = False) -> Address:
        """Itself: an address is relative to nothing."""
        return self

    def absolute(self) -> Address:
        return self


def data_place(text: str) -> Path:
    """A folder, or an address."""
    return Address(text) if _parts(text) else Path(text)


def is_address(place: Path) -> bool:
    return _parts(str(place)) is not None


def _parts(text: str) -> tuple[str, str] | None:
    found = _ADDRESS.fullmatch(text)
    return (found[1], found[2]) if found else None


def local_directory(place: Path, *, features: str | None = None) -> Path:
    """The folder of a data set: `place` itself, or its copy on this node, brought up to date.

    Args:
        features: name, or pattern, of the tables of features that must be there too; None: those that are there.

    Raises:
        UserError: no data set at the address, or it cannot be reached.
    """
    if not is_address(place):
        return place
    remote = Remote(place)
    remote.fetch(lambda name: not name.startswith("features/") or (features is not None and Path(name).match(features)))
    return remote.folder


@contextlib.contextmanager
def workplace(place: Path) -> Iterator[Path]:
    """The folder to make a data set in: `place` itself, or a copy of the address, which is written back at the end."""
    if not is_address(place):
        yield place
        return
    remote = Remote(place)
    if remote.manifest() is not None:
        remote.fetch(lambda name: True)
    remote.folder.mkdir(parents=True, exist_ok=True)
    yield remote.folder
    remote.publish()


class Remote:
    """A data set at an address, and the folder of its copy."""

    def __init__(self, place: Path) -> None:
        parts = _parts(str(place))
        assert parts is not None, place
        self.address = "{}://{}".format(*parts)
        key = hashlib.sha256(self.address.encode()).hexdigest()[:12]
        cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "nmt")
        name = re.sub(r"[^\w-]+", "-", parts[1].partition("?")[0]).strip("-")
        self.folder = cache / f"{name}-{key}"
        self._place = Location(self.address)

    def manifest(self) -> dict[str, FileRecord] | None:
        """What is there; None where there is no data set."""
        where = f"{self.address}/{MANIFEST_FILE}"
        return self._place.read(MANIFEST_FILE, lambda content: parse_manifest(content, where))

    def fetch(self, wanted: Callable[[str], bool]) -> None:
        """Copies the wanted files that the copy has not, or has in another version."""
        there = self.manifest()
        if there is None:
            raise UserError(
                f"{self.address}: no data set there; make it with: python run.py --prepare NAME --data {self.address}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / LOCK_FILE):
            have = self._copied()
            for name, expected in there.items():
                if wanted(name) and (have.get(name) != expected or not (self.folder / name).is_file()):
                    self._fetch_file(name, expected)
                    have[name] = expected
            _write_records(self.folder, have)

    def _copied(self) -> dict[str, FileRecord]:
        path = self.folder / MANIFEST_FILE
        return parse_manifest(path.read_bytes(), str(path)) if path.is_file() else {}

    def _fetch_file(self, name: str, expected: FileRecord) -> None:
        if not self._place.download(name, expected, self.folder / name):
            raise UserError(f"{self.address}/{name}: not the file its manifest names; prepare the data set anew")

    def publish(self) -> None:
        """Writes the folder's files that are not there yet, the objects after the others, the manifest last."""
        there, have = self.manifest() or {}, self._copied()
        for name in sorted(have, key=lambda name: (name == OBJECTS_FILE, name)):
            if there.get(name) != have[name]:
                self._place.upload(self.folder / name, name)
        if there != have:
            self._place.upload(self.folder / MANIFEST_FILE, MANIFEST_FILE)


def _write_records(folder: Path, records: dict[str, FileRecord]) -> None:
    files = {name: asdict(found) for name, found in sorted(records.items())}
    write_json(folder / MANIFEST_FILE, {"version": 1, "files": files})

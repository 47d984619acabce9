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
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path, PosixPath
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs

from nmt.data.manifest import MANIFEST_FILE, FileRecord, parse_manifest, record
from nmt.errors import UserError
from nmt.files import file_lock, write_json

CACHE_VARIABLE = "NMT_CACHE"
LOCK_FILE = ".copy.lock"
ATTEMPTS, FIRST_PAUSE = 4, 0.5
"""of reading and writing; each pause is twice the one before, seconds"""
PIECE = 8 << 20
_CONNECT_SECONDS, _REQUEST_SECONDS = 10, 60

_ADDRESS = re.compile(r"(?!file:)([a-z][a-z0-9+]+):/{1,2}([^/].*)", re.DOTALL)
T = TypeVar("T")


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
        self._fs, self._root = _file_system(self.address)

    def manifest(self) -> dict[str, FileRecord] | None:
        """What is there; None where there is no data set."""
        path = f"{self._root}/{MANIFEST_FILE}"

        def read() -> dict[str, FileRecord] | None:
            if self._fs.get_file_info(path).type == pa.fs.FileType.NotFound:
                return None
            with self._fs.open_input_stream(path) as stream:
                content = bytes(stream.read())
            try:
                return parse_manifest(content, f"{self.address}/{MANIFEST_FILE}")
            except UserError as error:  # where a connection breaks, pyarrow may give what came without a word
                raise OSError(str(error)) from error

        return self._persistently(read, "read")

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
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{expected.sha256[:12]}.part")

        def read() -> None:
            with self._fs.open_input_file(f"{self._root}/{name}") as source, part.open("ab") as target:
                while target.tell() < expected.bytes:
                    piece = source.read_at(min(PIECE, expected.bytes - target.tell()), target.tell())
                    if not piece:
                        raise OSError(f"it ends after {target.tell()} of {expected.bytes} bytes")
                    target.write(piece)
                os.fsync(target.fileno())

        self._persistently(read, f"read ({name})")
        if record(part) != expected:
            part.unlink()
            raise UserError(f"{self.address}/{name}: not the file its manifest names; prepare the data set anew")
        part.replace(path)

    def publish(self) -> None:
        """Writes the folder's files that are not there yet, the objects after the others, the manifest last."""
        there, have = self.manifest() or {}, self._copied()
        for name in sorted(have, key=lambda name: (name == "objects.arrow", name)):
            if there.get(name) != have[name]:
                self._persistently(lambda name=name: self._write(name), f"written ({name})")  # type: ignore[misc]
        if there != have:
            self._persistently(lambda: self._write(MANIFEST_FILE), f"written ({MANIFEST_FILE})")

    def _write(self, name: str) -> None:
        """A file of an object store appears whole, when its stream is closed, or not at all."""
        path = f"{self._root}/{name}"
        if self._fs.type_name == "hdfs":  # in object stores folders are part of the name
            self._fs.create_dir(path.rpartition("/")[0], recursive=True)
        with (self.folder / name).open("rb") as source:
            target = self._fs.open_output_stream(path)
            try:
                while piece := source.read(PIECE):
                    target.write(piece)
            except BaseException:
                target.abort()
                raise
            target.close()

    def _persistently(self, work: Callable[[], T], what: str) -> T:
        """Does the work again when the connection fails. Raises UserError when it keeps failing."""
        for attempt in range(ATTEMPTS):
            try:
                return work()
            except OSError as error:
                last = error
                if attempt < ATTEMPTS - 1:
                    time.sleep(FIRST_PAUSE * 2**attempt)
        reason = " ".join(str(last).split())[:200]
        raise UserError(
            f"{self.address}: cannot be {what} after {ATTEMPTS} attempts; the same command goes on from here ({reason})"
        ) from last


def _write_records(folder: Path, records: dict[str, FileRecord]) -> None:
    files = {name: asdict(found) for name, found in sorted(records.items())}
    write_json(folder / MANIFEST_FILE, {"version": 1, "files": files})


def _file_system(address: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of an address, and the path on it."""
    try:
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        if address.startswith("s3://") and endpoint and "?" not in address:
            scheme, _, host = endpoint.rpartition("://")
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
            fs = pa.fs.S3FileSystem(
                endpoint_override=host.rstrip("/"),
                scheme=scheme or "https",
                region=region,
                connect_timeout=_CONNECT_SECONDS,
                request_timeout=_REQUEST_SECONDS,
            )
            return fs, address.removeprefix("s3://").rstrip("/")
        fs, root = pa.fs.FileSystem.from_uri(address)
        return fs, root.rstrip("/")
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{address}: not an address of data that can be opened ({reason})") from error

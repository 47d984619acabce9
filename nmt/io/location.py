"""Files in a folder or below an address (s3://bucket/x, gs://bucket/x, any of pyarrow.fs), read and written patiently.

A file appears whole or not at all: object stores make it when its stream is closed, a folder gets it by renaming.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs

from nmt.errors import UserError, one_line
from nmt.io.file_record import FileRecord, record
from nmt.io.files import atomic_output, atomic_write

ATTEMPTS, FIRST_PAUSE = 4, 0.5
"""of reading and writing; each pause is twice the one before, seconds"""
PIECE = 8 << 20
_CONNECT_SECONDS, _REQUEST_SECONDS = 10, 60
T = TypeVar("T")


class Location:
    """The files below `address`, by their paths relative to it.

    Every method tries `attempts` times where a connection fails, then raises UserError.
    """

    def __init__(self, address: str, *, attempts: int = ATTEMPTS) -> None:
        """Raises UserError where the address names no file system; nothing is read yet."""
        self.address = address
        self._attempts = attempts
        self._fs, self._root = file_system(address)

    def names(self, folder: str = "") -> dict[str, int]:
        """All files in the folder, in all depths, and their sizes; none where nothing is there."""
        selector = pa.fs.FileSelector(f"{self._root}/{folder}".rstrip("/"), allow_not_found=True, recursive=True)
        found = self._persistently(lambda: self._fs.get_file_info(selector), "listed", folder)
        files = [info for info in found if info.type == pa.fs.FileType.File]
        return {info.path.removeprefix(f"{self._root}/"): info.size for info in files}

    def read(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        """A small file's content through `parse`; None where it is not there.

        Content that `parse` refuses with UserError is read again: where a connection breaks, pyarrow may give what
        came without a word.
        """

        def read() -> T | None:
            info = self._fs.get_file_info(f"{self._root}/{name}")
            if info.type == pa.fs.FileType.NotFound:
                return None
            with self._fs.open_input_stream(info.path) as stream:
                content = bytes(stream.read())
            try:
                return parse(content)
            except UserError as error:
                raise OSError(str(error)) from error

        return self._persistently(read, "read", name)

    def download(self, name: str, expected: FileRecord, path: Path) -> bool:
        """The file at `path`, going on where a connection broke; False, and no file, where it is not as expected.

        Also False where it is not there.
        """
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

        try:
            self._persistently(read, "read", name)
        except FileNotFoundError:
            return False
        if record(part) != expected:
            part.unlink()
            return False
        part.replace(path)
        return True

    def copy(self, name: str, size: int, path: Path) -> None:
        """At least the first `size` bytes, those listed, of a file that may have grown since."""

        def check(content: bytes) -> bytes:
            if len(content) < size:
                raise UserError(f"it ends after {len(content)} of {size} bytes")
            return content

        content = self.read(name, check)
        with atomic_write(path) as file:
            file.write(content or b"")

    def upload(self, source: Path, name: str) -> None:
        """Puts the file there under that name."""
        self._persistently(lambda: self._upload(source, f"{self._root}/{name}"), "written", name)

    def _upload(self, source: Path, path: str) -> None:
        if self._fs.type_name == "local":
            with atomic_output(Path(path)) as partial:
                shutil.copyfile(source, partial)
            return
        if self._fs.type_name == "hdfs":  # in object stores folders are part of the name
            self._fs.create_dir(path.rpartition("/")[0], recursive=True)
        with source.open("rb") as file:
            target = self._fs.open_output_stream(path)
            try:
                while piece := file.read(PIECE):
                    target.write(piece)
            except BaseException:
                target.abort()
                raise
            target.close()

    def delete(self, name: str) -> None:
        """Removes the file; it may be gone already."""

        def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.delete_file(f"{self._root}/{name}")

        self._persistently(delete, "removed", name)

    def _persistently(self, work: Callable[[], T], verb: str, name: str = "") -> T:
        """Does the work again when the connection fails. Raises UserError when it keeps failing."""
        for attempt in range(self._attempts):
            try:
                return work()
            except FileNotFoundError:
                raise
            except OSError as error:
                last = error
                if attempt < self._attempts - 1:
                    time.sleep(FIRST_PAUSE * 2**attempt)
        raise UserError(
            f"{self.address}{name and '/'}{name}: cannot be {verb} after {self._attempts} attempts; "
            f"the same command goes on from here ({one_line(last)})"
        ) from last


def file_system(address: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of a folder or an address, and the path on it."""
    if "://" not in address:
        return pa.fs.LocalFileSystem(), str(Path(address).resolve())
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
        raise UserError(f"{address}: not an address that can be opened ({one_line(error)})") from error

"""Files in a folder or an object store (s3://bucket/x, gs://bucket/x, any address of pyarrow.fs), with retries.

A file appears whole or not at all. An object store creates an object when its stream is closed; in a folder, a
temporary file is renamed.
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

from nmt.errors import TemporaryError, UserError, one_line
from nmt.io.file_record import FileRecord, record
from nmt.io.files import atomic_output, atomic_write

ATTEMPTS, FIRST_PAUSE = 4, 0.5
"""tries of each operation; seconds before the second try, doubled for each further one"""
PIECE = 8 << 20
"""bytes read or written at once"""
_CONNECT_SECONDS, _REQUEST_SECONDS = 10, 60
"""limits of opening an S3 connection and of one request, seconds"""
T = TypeVar("T")


class Location:
    """The files below an address, named by their paths relative to it.

    Every method tries `attempts` times when a connection fails, then raises UserError.

    Args:
        address: a folder or an address such as s3://bucket/x.
        attempts: tries of each operation.
    """

    def __init__(self, address: str, *, attempts: int = ATTEMPTS) -> None:
        """Open the file system; nothing is read. Raises UserError when the address names none."""
        self.address = address
        self._attempts = attempts
        self._fs, self._root = file_system(address)

    def names(self, folder: str = "") -> dict[str, int]:
        """List all files in a folder and below it.

        Args:
            folder: relative to the address; a missing one has no files.

        Returns:
            Name -> size, bytes.

        Raises:
            UserError: no connection.
        """
        selector = pa.fs.FileSelector(f"{self._root}/{folder}".rstrip("/"), allow_not_found=True, recursive=True)
        found = self._persistently(lambda: self._fs.get_file_info(selector), "listed", folder)
        files = [info for info in found if info.type == pa.fs.FileType.File]
        return {info.path.removeprefix(f"{self._root}/"): info.size for info in files}

    def read(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        """Read and parse a small file.

        Content that `parse` refuses with UserError is read again: when a connection breaks, pyarrow may return a part
        of the content without an error.

        Args:
            name: relative to the address.
            parse: turns the content into the result.

        Returns:
            The parsed content; None when there is no such file.

        Raises:
            UserError: no connection, or content that is refused each time.
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
        """Download a file, resuming after broken connections and interrupted calls.

        Args:
            name: relative to the address.
            expected: its size and checksum.
            path: where to put it.

        Returns:
            False, and no file at `path`, when the file is missing or not as expected.

        Raises:
            UserError: no connection.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        # The checksum in its name keeps a part of an older version from being completed with the newer one.
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
        """Copy a file that may be growing, such as TensorBoard events, to `path`.

        Args:
            name: relative to the address.
            size: its size when it was listed; a shorter copy is a broken connection and is tried again.
            path: where to put it.

        Raises:
            UserError: no connection.
        """

        def check(content: bytes) -> bytes:
            if len(content) < size:
                raise UserError(f"it ends after {len(content)} of {size} bytes")
            return content

        content = self.read(name, check)
        with atomic_write(path) as file:
            file.write(content or b"")

    def upload(self, source: Path, name: str) -> None:
        """Upload the file `source` as `name`, replacing what is there. Raises UserError."""
        self._persistently(lambda: self._upload(source, f"{self._root}/{name}"), "written", name)

    def _upload(self, source: Path, path: str) -> None:
        if self._fs.type_name == "local":
            with atomic_output(Path(path)) as partial:
                shutil.copyfile(source, partial)
            return
        if self._fs.type_name == "hdfs":  # object stores have no folders, only names with slashes
            self._fs.create_dir(path.rpartition("/")[0], recursive=True)
        with source.open("rb") as file:
            target = self._fs.open_output_stream(path)
            try:
                while piece := file.read(PIECE):
                    target.write(piece)
            except BaseException:  # an interruption too: closing the stream would create a shorter object
                target.abort()
                raise
            target.close()

    def delete(self, name: str) -> None:
        """Delete a file; a missing one is no error. Raises UserError when there is no connection."""

        def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.delete_file(f"{self._root}/{name}")

        self._persistently(delete, "removed", name)

    def _persistently(self, work: Callable[[], T], verb: str, name: str = "") -> T:
        """Do the work, up to `attempts` times while the connection fails. Raises UserError, or FileNotFoundError.

        Args:
            work: one try.
            verb: what it does, for the message: "read", "written".
            name: file it is about.
        """
        for attempt in range(self._attempts):
            try:
                return work()
            except FileNotFoundError:
                raise
            except OSError as error:
                last = error
                if attempt < self._attempts - 1:
                    time.sleep(FIRST_PAUSE * 2**attempt)
        raise TemporaryError(
            f"{self.address}{name and '/'}{name}: cannot be {verb} after {self._attempts} attempts; "
            f"the same command resumes from here ({one_line(last)})"
        ) from last


def file_system(address: str) -> tuple[pa.fs.FileSystem, str]:
    """Open the file system of a folder or an address.

    Args:
        address: a folder; or SCHEME://..., for S3 with AWS_ENDPOINT_URL and AWS_REGION of the environment.

    Returns:
        The file system, and the path on it.

    Raises:
        UserError: no such scheme, or a malformed address.
    """
    if "://" not in address:
        return pa.fs.LocalFileSystem(), str(Path(address).resolve())
    try:
        # AWS_ENDPOINT_URL names an S3-compatible store that is not Amazon's, such as MinIO.
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

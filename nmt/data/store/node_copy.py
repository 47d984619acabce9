"""Data sets at an address (s3://bucket/x, gs://bucket/x, any of pyarrow.fs): one verified copy per node.

A command or a job turns an address into the folder of a copy first. Nothing else in `nmt` reaches the network for data.
All processes of a node share one copy and map the same pages. The manifest names the files of a data set with size and
hash. It is written last, so an address without a manifest has no data set yet. Copies lie below $NMT_CACHE, or
~/.cache/nmt. They are made under a lock, resumed where a connection broke, and verified before they get their name.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from nmt.commands import command
from nmt.data.store.manifest import MANIFEST_FILE, parse_manifest
from nmt.data.store.present import OBJECTS_FILE, PHOTOGRAPHS_FILE
from nmt.errors import UserError
from nmt.io.address import address_parts, is_address
from nmt.io.cache import cache_folder, make_folder
from nmt.io.file_record import FileRecord
from nmt.io.files import file_lock, write_json
from nmt.io.location import Location

LOCK_FILE = ".copy.lock"


def local_copy(data: str | Path, *, features: Iterable[str] = ()) -> Path:
    """Bring a data set to this node: its folder as it is, or a copy of what is at the address, made or updated.

    Args:
        data: a folder or an address.
        features: names or patterns of the optional files that are needed: tables of features, such as "features/*",
            and photographs.arrow.

    Raises:
        UserError: no data set at the address, or it cannot be reached.
    """
    if not is_address(data):
        return Path(data)
    remote = RemoteData(str(data))
    wanted = tuple(features)
    remote.fetch(lambda name: not _is_optional(name) or any(Path(name).match(pattern) for pattern in wanted))
    return remote.folder


def _is_optional(name: str) -> bool:
    """True for a large file of a data set that not every training reads."""
    return name.startswith("features/") or name == PHOTOGRAPHS_FILE


@contextlib.contextmanager
def folder_to_write(data: str | Path) -> Iterator[Path]:
    """Yield the folder to make a data set in; what is at an address is copied first and written back at the end."""
    if not is_address(data):
        yield Path(data)
        return
    remote = RemoteData(str(data))
    if remote.manifest() is not None:
        remote.fetch(lambda name: True)
    make_folder(remote.folder)
    yield remote.folder
    remote.publish()


class RemoteData:
    """A data set at an address, and the folder of its copy on this node."""

    def __init__(self, address: str) -> None:
        scheme, path = address_parts(address)
        self.address = f"{scheme}://{path}"
        key = hashlib.sha256(self.address.encode()).hexdigest()[:12]
        name = re.sub(r"[^\w-]+", "-", path.partition("?")[0]).strip("-")
        self.folder = cache_folder() / f"{name}-{key}"
        self._location = Location(self.address)

    def manifest(self) -> dict[str, FileRecord] | None:
        """Read what is at the address; None if there is no data set."""
        where = f"{self.address}/{MANIFEST_FILE}"
        return self._location.read(MANIFEST_FILE, lambda content: parse_manifest(content, where))

    def fetch(self, wanted: Callable[[str], bool]) -> None:
        """Copy the wanted files that the local copy lacks or has in another version. Raises UserError."""
        there = self.manifest()
        if there is None:
            raise UserError(
                f"{self.address}: no data set there; make it with: " + command("--prepare", "NAME", data=self.address)
            )
        make_folder(self.folder)
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
        if not self._location.download(name, expected, self.folder / name):
            raise UserError(f"{self.address}/{name}: not the file its manifest names; prepare the data set anew")

    def publish(self) -> None:
        """Upload the files that the address lacks: the objects after the others, the manifest last."""
        there, have = self.manifest() or {}, self._copied()
        for name in sorted(have, key=lambda name: (name == OBJECTS_FILE, name)):
            if there.get(name) != have[name]:
                self._location.upload(self.folder / name, name)
        if there != have:
            self._location.upload(self.folder / MANIFEST_FILE, MANIFEST_FILE)


def _write_records(folder: Path, records: dict[str, FileRecord]) -> None:
    files = {name: asdict(found) for name, found in sorted(records.items())}
    write_json(folder / MANIFEST_FILE, {"version": 1, "files": files})

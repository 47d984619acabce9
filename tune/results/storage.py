"""`--storage`: where a run lives when that is not the folder it works in.

Every process works in a folder of its own node and puts what it made at the storage: a training after each epoch, the
search at each turn. Files are stored under names that hold a hash of their content, and each folder's `state.json`,
written last, says which of them are in force: an upload that breaks off leaves the state before it whole, and what is
fetched is verified. TensorBoard's event files, which only grow, keep their names.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from nmt.errors import UserError
from nmt.io.file_record import FileRecord, record
from nmt.io.files import file_lock, write_json
from nmt.io.location import Location
from nmt.training.files import CONFIG
from tune.results.layout import DEFINITION, EVENTS, FETCH_LOCK, LOG, STATE, STUDY

ATTEMPTS = 8
"""A storage may be away for a minute (0.5, 1, .. 32 seconds between the attempts) before the run fails of it."""

State = dict[str, FileRecord]


def run_address(storage: str, name: str) -> str:
    """Return the address of the run `name` at a storage, as given to --storage."""
    return f"{storage.rstrip('/')}/{name}"


@dataclass(frozen=True)
class Storage:
    """The counterpart of a run's directory, folder by folder. May be sent to other processes.

    Every method raises UserError when the storage stays away, or when a disk here is full.
    """

    address: str
    """of the run: s3://bucket/results/NAME, or a folder such as /nfs/results/NAME"""
    directory: Path
    """where the run works, on each node"""

    @cached_property
    def _place(self) -> Location:
        return Location(self.address, attempts=ATTEMPTS)

    def put(self, folder: str = "", pattern: str = "*") -> None:
        """Puts the files of a folder, not those of its subfolders, whose names match."""
        here = self.directory / folder
        files = [p for p in here.glob(pattern) if p.is_file() and not p.name.startswith((".", f"{STUDY}-"))]
        with tempfile.TemporaryDirectory() as scratch:
            sources = {p.name: _still(p, Path(scratch)) for p in files if not _grows(p.name)}
            if sources:
                self._switch(folder, sources, Path(scratch))
        for path in files:
            if _grows(path.name):
                self._place.upload(path, _join(folder, path.name))

    def _switch(self, folder: str, sources: dict[str, Path], scratch: Path) -> None:
        """From the state in force to one with these files, which others keep."""
        before = self._state(folder)
        after = before | {name: record(path) for name, path in sources.items()}
        changed = [name for name in after if after[name] != before.get(name)]
        if not changed:
            return
        for name in changed:
            self._place.upload(sources[name], _join(folder, _stored(name, after[name])))
        write_json(scratch / STATE, {"version": 1, "files": {name: asdict(version) for name, version in after.items()}})
        self._place.upload(scratch / STATE, _join(folder, STATE))
        for name in changed:
            if name in before:
                self._place.delete(_join(folder, _stored(name, before[name])))

    def _state(self, folder: str) -> State:
        """What is in force in a folder; empty where nothing has been put."""
        name = _join(folder, STATE)
        return self._place.read(name, lambda content: _parse(content, f"{self.address}/{name}")) or {}

    def holds(self, name: str) -> bool:
        """Whether the file is there, at the top."""
        return name in self._state("")

    def fetch(self, folder: str = "", *, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Makes the folder and its subfolders here what the storage has of the wanted names; other files stay."""
        there = self._place.names(folder)
        for inner, names in _by_folder(there).items():
            here = self.directory / inner
            here.mkdir(parents=True, exist_ok=True)
            with file_lock(here / FETCH_LOCK):  # workers on one node share it
                if STATE in names:
                    self._fetch_state(inner, wanted)
                for name in filter(_grows, names):
                    size = there[_join(inner, name)]
                    if wanted(name) and not ((here / name).is_file() and (here / name).stat().st_size >= size):
                        self._place.copy(_join(inner, name), size, here / name)

    def _fetch_state(self, folder: str, wanted: Callable[[str], bool]) -> None:
        state = self._state(folder)
        for name, version in state.items():
            path, stored = self.directory / folder / name, _join(folder, _stored(name, version))
            if not wanted(name) or (path.is_file() and record(path) == version):
                continue
            if name == STUDY:  # what sqlite noted to undo in the one that goes would spoil the one that comes
                path.with_name(f"{STUDY}-journal").unlink(missing_ok=True)
            if not self._place.download(stored, version, path):
                if self._state(folder) != state:  # switched meanwhile
                    return self._fetch_state(folder, wanted)
                raise UserError(f"{self.address}/{stored}: missing or damaged, though {STATE} beside it names it")

    def take_over(self, folder: str) -> None:
        """`fetch`, for the process that will put this folder: removes what an upload that broke off left there."""
        self.fetch(folder)
        kept = {STATE} | {_stored(name, version) for name, version in self._state(folder).items()}
        for path in self._place.names(folder):
            name = PurePosixPath(path).name
            if name not in kept and not _grows(name):
                self._place.delete(path)


def fetch_results(home: Storage) -> None:
    """What a report needs of a run. Left alone while a search goes on in this very directory, which is newer."""
    from tune.results.lock import LockedError, only_one

    if not home.holds(CONFIG) and not home.holds(DEFINITION):
        raise UserError(f"{home.address}: no search or training there")
    with contextlib.suppress(LockedError), only_one(home.directory):
        home.fetch(wanted=no_weights)


def no_weights(name: str) -> bool:
    """Everything but checkpoints and weights: what a report is made of."""
    return not name.endswith(".pt")


def _grows(name: str) -> bool:
    return name.startswith(EVENTS)


def _stored(name: str, version: FileRecord) -> str:
    """checkpoint.pt -> checkpoint.0123456789ab.pt"""
    path = PurePosixPath(name)
    return f"{path.stem}.{version.sha256[:12]}{path.suffix}"


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _still(path: Path, scratch: Path) -> Path:
    """Return what can be read without being written meanwhile: the file itself, or a copy of a database or a log."""
    copy = scratch / path.name
    if path.name == LOG:
        return Path(shutil.copyfile(path, copy))
    if path.name != STUDY:
        return path
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    return folders


def _parse(content: bytes, where: str) -> State:
    try:
        state = {name: FileRecord(**values) for name, values in json.loads(content)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: not the state of a run ({error})") from error
    for name in state:
        if PurePosixPath(name).name != name or name in (".", ".."):
            raise UserError(f"{where}: names {name!r}, which is not a file of this folder")
    return state

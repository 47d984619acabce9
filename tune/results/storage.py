"""`--storage`: keep a run at an address that outlives the nodes it works on.

Every process works in a folder of its own node and uploads what it made: a training after each epoch, the search at
each turn. A file is stored under a name that holds a hash of its content. The `state.json` of each folder, written
last, lists the versions in force. So an upload that breaks off leaves the earlier state whole, and every download is
verified. TensorBoard's event files only grow; they keep their names.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from nmt.errors import UserError
from nmt.io.database import copy_database
from nmt.io.file_record import FileRecord, record
from nmt.io.files import file_lock, write_json
from nmt.io.location import Location
from nmt.training.files import CONFIG, EVENTS
from tune.results.layout import DEFINITION, FETCH_LOCK, LOG, STATE, STUDY, stays_here

ATTEMPTS = 8
"""attempts per request, 0.5, 1, .. 32 s apart: a storage may be unreachable for a minute before the run fails"""
_FILE = "file://"

State = dict[str, FileRecord]


def run_address(storage: str, name: str) -> str:
    """Return the address of the run `name` at a storage, as given to --storage."""
    return f"{storage.rstrip('/')}/{name}"


@dataclass(frozen=True)
class Storage:
    """The copy of a run's directory at the storage, folder by folder. Can be sent to other processes.

    Every method raises UserError if the storage cannot be reached, or if a disk here is full.
    """

    address: str
    """address of the run: s3://bucket/results/NAME, or a folder such as /nfs/results/NAME"""
    directory: Path
    """folder on each node that the run works in"""

    def __post_init__(self) -> None:
        """Refuse a storage that is the working folder itself, where stored files would mix with those in use."""
        if "://" in self.address and not self.address.startswith(_FILE):
            return
        there, here = Path(self.address.removeprefix(_FILE)).resolve(), self.directory.resolve()
        if there.is_relative_to(here) or here.is_relative_to(there):
            raise UserError(
                f"--storage {there.parent}: {there.name} would lie where --results works, in {here}; choose another "
                "--storage, or leave it out"
            )

    @cached_property
    def _location(self) -> Location:
        return Location(self.address, attempts=ATTEMPTS)

    def put(self, folder: str = "", pattern: str = "*") -> None:
        """Upload the files of a folder whose names match, without those of its subfolders."""
        here = self.directory / folder
        files = [p for p in here.glob(pattern) if p.is_file() and not stays_here(p.name)]
        with tempfile.TemporaryDirectory() as scratch:
            sources = {p.name: _still(p, Path(scratch)) for p in files if not _grows(p.name)}
            if sources:
                self._switch(folder, sources, Path(scratch))
        for path in files:
            if _grows(path.name):
                self._location.upload(path, _join(folder, path.name))

    def put_copies(self, folder: str, copies: Mapping[str, Path]) -> None:
        """Upload files of a folder, each from a copy that nobody writes: name -> copy. Other files stay in force."""
        with tempfile.TemporaryDirectory() as scratch:
            self._switch(folder, copies, Path(scratch))

    def remove(self, folder: str, names: Collection[str]) -> None:
        """Remove these files of a folder at the storage. Names that it does not hold are no error."""
        before = self._state(folder)
        after = {name: version for name, version in before.items() if name not in names}
        if len(after) == len(before):
            return
        with tempfile.TemporaryDirectory() as scratch:
            self._write_state(folder, after, Path(scratch))
        for name in before.keys() - after.keys():
            self._location.delete(_join(folder, _stored(name, before[name])))

    def _switch(self, folder: str, sources: Mapping[str, Path], scratch: Path) -> None:
        """Upload these files and switch the folder to the state that includes them. Other files stay in force."""
        before = self._state(folder)
        after = before | {name: record(path) for name, path in sources.items()}
        changed = [name for name in after if after[name] != before.get(name)]
        if not changed:
            return
        for name in changed:
            self._location.upload(sources[name], _join(folder, _stored(name, after[name])))
        self._write_state(folder, after, scratch)
        for name in changed:
            if name in before:
                self._location.delete(_join(folder, _stored(name, before[name])))

    def _write_state(self, folder: str, state: State, scratch: Path) -> None:
        write_json(scratch / STATE, {"version": 1, "files": {name: asdict(version) for name, version in state.items()}})
        self._location.upload(scratch / STATE, _join(folder, STATE))

    def _state(self, folder: str) -> State:
        """Return the versions in force in a folder; empty if nothing was uploaded."""
        name = _join(folder, STATE)
        return self._location.read(name, lambda content: _parse(content, f"{self.address}/{name}")) or {}

    def holds(self, name: str, folder: str = "") -> bool:
        """True if the file is in the folder of the run, by default in the top one."""
        return name in self._state(folder)

    def stored(self, folder: str) -> set[tuple[str, str]]:
        """List the checkpoints and weights at the storage in a folder and below it: (folder, name)."""
        paths = (PurePosixPath(name) for name in self._location.names(folder) if not no_weights(name))
        return {(str(path.parent), PurePosixPath(path.stem).stem + path.suffix) for path in paths}

    def fetch(self, folder: str = "", *, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Download the wanted files of a folder and its subfolders. Other files here stay.

        Args:
            wanted: decides by file name.
        """
        there = self._location.names(folder)
        for inner, names in _by_folder(there).items():
            here = self.directory / inner
            here.mkdir(parents=True, exist_ok=True)
            with file_lock(here / FETCH_LOCK):  # workers on one node share the folder
                if STATE in names:
                    self._fetch_state(inner, wanted)
                for name in filter(_grows, names):
                    size = there[_join(inner, name)]
                    if wanted(name) and not ((here / name).is_file() and (here / name).stat().st_size >= size):
                        self._location.copy(_join(inner, name), size, here / name)

    def _fetch_state(self, folder: str, wanted: Callable[[str], bool]) -> None:
        state = self._state(folder)
        for name, version in state.items():
            path, stored = self.directory / folder / name, _join(folder, _stored(name, version))
            if not wanted(name) or (path.is_file() and record(path) == version):
                continue
            if name == LOG and path.is_file() and path.stat().st_size >= version.bytes:
                continue  # it only grows, and was written to here since the upload
            if name == STUDY:  # sqlite would apply the old database's rollback journal to the new one
                path.with_name(f"{STUDY}-journal").unlink(missing_ok=True)
            if not self._location.download(stored, version, path):
                if self._state(folder) != state:  # another process switched it meanwhile
                    return self._fetch_state(folder, wanted)
                raise UserError(f"{self.address}/{stored}: missing or damaged, though {STATE} beside it names it")

    def take_over(self, folder: str) -> None:
        """`fetch`, for the process that will upload this folder from now on.

        Also removes the files that an upload left at the storage when it broke off.
        """
        self.fetch(folder)
        kept = {STATE} | {_stored(name, version) for name, version in self._state(folder).items()}
        for path in self._location.names(folder):
            name = PurePosixPath(path).name
            if name not in kept and not _grows(name):
                self._location.delete(path)


def fetch_results(home: Storage) -> None:
    """Download everything but weights, unless a search is running here, whose files are newer.

    Raises:
        UserError: the storage holds no such run.
    """
    from tune.results.lock import LockedError, only_one

    if not home.holds(CONFIG) and not home.holds(DEFINITION):
        raise UserError(f"{home.address}: no search or training there")
    with contextlib.suppress(LockedError), only_one(home.directory):
        home.fetch(wanted=no_weights)


def no_weights(name: str) -> bool:
    """True for every file but checkpoints and weights: all that a report reads."""
    return not name.endswith(".pt")


def _grows(name: str) -> bool:
    return name.startswith(EVENTS)


def _stored(name: str, version: FileRecord) -> str:
    """Return the name at the storage: checkpoint.pt -> checkpoint.0123456789ab.pt."""
    path = PurePosixPath(name)
    return f"{path.stem}.{version.sha256[:12]}{path.suffix}"


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _still(path: Path, scratch: Path) -> Path:
    """Return a file that no other process writes meanwhile.

    That is the file itself, or a copy of it if it is a database or a log.
    """
    copy = scratch / path.name
    if path.name == LOG:
        return Path(shutil.copyfile(path, copy))
    if path.name != STUDY:
        return path
    copy_database(path, copy)
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

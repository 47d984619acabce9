"""Read the files that users give, annotations above all: whatever is wrong with one becomes a line that names it.

No reader opens a user's file by itself. Every OSError, decoder error and parse error ends here as a UserError: the
file, what is wrong with it, and where it helps what to do. Files whose names begin with a dot, such as the `._name`
ghosts of macOS, are never listed.
"""

from __future__ import annotations

import fnmatch
import json
import mmap
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from nmt.errors import UserError, one_line
from nmt.io.magic import kind_of, kind_of_text

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
"""folders that macOS, network storages (for thumbnails), Windows and Linux add by themselves"""


def is_file(path: Path) -> bool:
    """Return True if there is a file; False for a name that no file can have, and for a folder without access."""
    return os.path.isfile(path)  # unlike Path.is_file, it raises nothing


def is_link(path: Path) -> bool:
    """Return True if there is a symbolic link, which may lead nowhere."""
    return os.path.islink(path)


def is_folder(path: Path) -> bool:
    """Return True if there is a folder; False for a name that none can have."""
    return os.path.isdir(path)


def visible_files(folder: Path, pattern: str, *, below: bool = False) -> list[Path]:
    """List the files of a folder by a pattern, sorted, without those that are hidden or lie in a hidden folder.

    Args:
        folder: where to look; a missing one holds none.
        pattern: of the file's name, in any case of letters: `*.csv` finds `POINTS.CSV`.
        below: look in all folders below as well. Links to folders are followed, and each folder is read once.

    Raises:
        UserError: a folder cannot be read.
    """
    found: list[Path] = []
    folders, links, seen = [folder], list[Path](), set[Path]()
    while folders or links:
        # Links come last, so that a folder which is there twice goes by its own name.
        place = folders.pop() if folders else links.pop()
        if (real := Path(os.path.realpath(place))) in seen:
            continue
        seen.add(real)
        for entry in visible_entries(place):
            path = place / entry.name
            if fnmatch.fnmatchcase(entry.name.lower(), pattern.lower()) and _is(entry.is_file):
                found.append(path)
            elif below and _is(entry.is_dir):
                (links if entry.is_symlink() else folders).append(path)
    return sorted(found)


def visible_folders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted, without hidden ones. Raises UserError if it cannot be read."""
    return [folder / entry.name for entry in visible_entries(folder) if _is(entry.is_dir)]


def _is(check: Callable[[], bool]) -> bool:
    """Ask what an entry of a folder is. Unlike `is_file`, this needs no access to it: opening it says what is wrong."""
    try:
        return check()
    except OSError:  # a link that leads in a circle, or where there is no permission
        return False


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """List what lies in a folder, sorted; nothing where there is no such folder. Raises UserError."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not is_hidden(PurePath(entry.name))]
        return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def is_hidden(path: PurePath) -> bool:
    """Return True for a path with a part that begins with a dot, or that a system or a program put there for itself."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.startswith("~$") or part in _SYSTEM_FOLDERS
        for part in path.parts
    )


def check_file(path: Path, *, what: str = "file", absent: str | None = None) -> None:
    """Check that a file is there, without opening it.

    Args:
        what: what the file should be, for the message: "image".
        absent: what the message says of a missing file; by default "no such image".

    Raises:
        UserError: there is none, or it is a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{shown_path(path)}: {absent or f'no such {what}'}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte, a lone surrogate
        raise unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{shown_path(path)}: is a folder; give the {what} itself")
    if not stat.S_ISREG(mode):  # reading a pipe could wait for ever
        raise UserError(f"{shown_path(path)}: is a pipe or a device; save the {what} as a file")


def open_file(path: Path, *, what: str = "file") -> BinaryIO:
    """Open a file for reading, as bytes. Raises UserError as `check_file` does, or if it cannot be opened."""
    check_file(path, what=what)
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def read_bytes(path: Path, *, what: str = "file") -> bytes:
    """Read a file whole. Raises UserError when it cannot be read."""
    with open_file(path, what=what) as file:
        try:
            return file.read()
        except (OSError, MemoryError) as error:
            raise unreadable(path, error) from error


def read_start(path: Path, *, most: int = 4096) -> bytes:
    """Read the first bytes of a file. Raises UserError when it cannot be read."""
    with open_file(path) as file:
        try:
            return file.read(most)
        except OSError as error:
            raise unreadable(path, error) from error


def mentions(path: Path, words: Iterable[bytes]) -> bool:
    """Look for words in a file of any size without parsing it; UTF-16, which spells them differently, passes.

    Args:
        path: the file.
        words: as UTF-8; one of them is enough.

    Raises:
        UserError: it cannot be read.
    """
    start = read_start(path, most=2)
    if not start or start in _UTF16_MARKS:  # an empty file cannot be mapped
        return bool(start)
    with open_file(path) as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return any(content.find(word) >= 0 for word in words)
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UserError:
    """Make the error of a file that cannot be opened or read."""
    reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
    remedy = "; its permissions do not allow you to read it" if isinstance(error, PermissionError) else ""
    return UserError(f"{shown_path(path)}: cannot be read ({reason}){remedy}")


def shown_path(path: Path) -> str:
    """Format a path for a message: printable, and at most 300 characters."""
    text = str(path)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= 300 else f"{text[:297]}..."


def read_text(path: Path, *, what: str = "text") -> str:
    """Read a text file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Args:
        what: what the file should be, for the message: "CSV", "JSON".

    Raises:
        UserError: it cannot be read, has another encoding, or plainly holds something else.
    """
    return decode_text(read_bytes(path), path, what=what)


def decode_text(content: bytes, path: Path, *, what: str = "text") -> str:
    """Decode the content of a text file as `read_text` does.

    Args:
        path: what error messages call the file; nothing is read from it.
        what: what the file should be, for the message: "CSV", "JSON".

    Raises:
        UserError: it has another encoding, or plainly holds something else.
    """
    encoding = "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig"
    try:
        text = content.decode(encoding)
        if "\0" in text:  # as in UTF-16 without a mark, and in most files that are no text
            raise ValueError("it holds zero bytes")
    except ValueError as error:
        kind = kind_of(content[:512])
        remedy = "save it as UTF-8" + (" (in a spreadsheet: CSV UTF-8)" if what == "CSV" else "")
        reason = f"(it is {kind})" if kind else f"({one_line(error)}); {remedy}"
        raise UserError(f"{shown_path(path)}: not readable {what} {reason}") from error
    if kind := kind_of_text(content[:512]):
        raise UserError(f"{shown_path(path)}: not readable {what} (it is {kind})")
    return text


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises UserError when it cannot be read, is not JSON, or names a key twice."""
    return parse_json(read_text(path, what="JSON"), path)


def parse_json(text: str, path: Path) -> Any:
    """Parse the text of a JSON file; messages call it `path`. Raises UserError as `read_json` does."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise UserError(f"{shown_path(path)}: an object has the key {shown(twice)} twice; keep one of them")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown_path(path)}: not readable JSON ({one_line(error)})") from error


def read_xml(path: Path) -> ElementTree.Element:
    """Parse an XML annotation and return its root element.

    Document type declarations are refused, for the entities they declare can expand to gigabytes.

    Raises:
        UserError: no such file, not XML, or a document type declaration in it.
    """

    def refuse(*_: object) -> NoReturn:
        raise ValueError("it declares a document type, which no annotation needs")

    # ElementTree's own parser offers no hook for document types, so expat feeds its builder directly.
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    content = read_bytes(path)
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        kind = kind_of(content[:512])
        reason = f"it is {kind}" if kind else one_line(error)
        raise UserError(f"{shown_path(path)}: not readable XML ({reason})") from error


def shown(value: object) -> str:
    """Format a value of a user's file for an error message, at most 60 characters."""
    text = "missing" if value is None else ascii(value) if _has_unprintable(value) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _has_unprintable(value: object) -> bool:
    return isinstance(value, str) and not value.isprintable()


def same_text(text: str) -> str:
    """Return the composed form (NFC) of a text: macOS writes the letter ö as two characters, others as one."""
    return unicodedata.normalize("NFC", text)


def listed(names: Iterable[str], *, most: int = 3) -> str:
    """Join names for a message: the first few, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more

"""Resumable downloads of the published raw data sets from their official addresses.

An archive is fetched into the raw folder as NAME.part, which a later run resumes, and is renamed once complete. Its
SHA-256 is written beside it and compared on every later run. It is unpacked into a temporary folder first, so that a
half-unpacked archive is never taken for the data set. Members that would land outside that folder are refused. The
archives may be deleted afterwards.
"""

from __future__ import annotations

import email.message
import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from nmt.errors import UserError, nearest, one_line
from nmt.io.files import atomic_write

if TYPE_CHECKING:
    from tqdm import tqdm


TIMEOUT, ATTEMPTS, WAIT = 30.0, 5, 2.0
"""seconds without data after which a connection is dropped; connections in a row without data before giving up;
seconds before the second try, doubled for each further one"""
_CHUNK = 1 << 18
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may pass: time-outs, too many requests, an overloaded or restarting server"""


@dataclass(frozen=True)
class Archive:
    """A file to download."""

    url: str
    name: str
    """file name in the raw folder"""
    inside: str | None = "."
    """folder to unpack into, relative to the raw folder; None: not an archive, keep as is"""


ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "voc": (
        Archive(
            "https://github.com/Thinklab-SJTU/PCA-GM/raw/master/data/PascalVOC/voc2011_pairs.npz",
            "voc2011_pairs.npz",
            None,
        ),
        Archive(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/shape/poselets/voc2011_keypoints_Feb2012.tgz",
            "voc2011_keypoints_Feb2012.tgz",
        ),
        Archive(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2011/VOCtrainval_25-May-2011.tar", "VOCtrainval_25-May-2011.tar"
        ),
    ),
    "spair": (Archive("https://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz", "SPair-71k.tar.gz"),),
    "willow": (
        Archive(
            "http://www.di.ens.fr/willow/research/graphlearning/WILLOW-ObjectClass_dataset.zip",
            "WILLOW-ObjectClass_dataset.zip",
        ),
    ),
}


def download(name: str, raw: Path, *, progress: bool = False, archives: Sequence[Archive] | None = None) -> None:
    """Download and unpack a raw data set. Files that exist are checked, not downloaded again.

    Args:
        name: voc, spair or willow.
        raw: folder to download into.
        progress: show a progress bar on standard error.
        archives: archives to download instead of those of `name`.

    Raises:
        UserError: unknown name, no connection, a changed file, an archive with unsafe members, a full disk.
    """
    if archives is None and name not in ARCHIVES:
        raise UserError(f"--download {name}: no such data set; {nearest(name, ARCHIVES)}")
    try:
        raw.mkdir(parents=True, exist_ok=True)
        for archive in ARCHIVES[name] if archives is None else archives:
            digest = fetch(archive.url, raw / archive.name, progress=progress)
            if archive.inside is not None:
                unpack(raw / archive.name, raw / archive.inside, digest=digest)
    except OSError as error:
        raise UserError(f"{raw}: cannot be written ({error.strerror or error})") from error


def fetch(url: str, path: Path, *, progress: bool = False) -> str:
    """Download a file; check one that exists against the checksum recorded when it was downloaded.

    Args:
        url: where it is.
        path: where to put it; NAME.part, NAME.tag and NAME.sha256 lie beside it.
        progress: show a progress bar on standard error.

    Returns:
        SHA-256 of the file, hex.

    Raises:
        UserError: no connection, or another checksum than the recorded one.
    """
    part, record = _beside(path, ".part"), _beside(path, ".sha256")
    recorded = next(iter(record.read_text().split()), None) if record.is_file() else None
    was_there = path.is_file()
    if not was_there:
        _fetch_part(url, part, path, progress=progress)
    found = path if was_there else part
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if recorded not in (None, digest):
        state = f"{path}: not the file that was downloaded" if was_there else f"{url}: the file has changed"
        raise UserError(
            f"{state} (SHA-256 {digest[:12]}..., but {record} records {recorded[:12]}...); delete {found} to download "
            f"it again, and {record.name} too to accept the change"
        )
    if recorded is None:
        with atomic_write(record) as record_file:
            record_file.write(f"{digest}  {path.name}\n".encode())
    if not was_there:
        part.replace(path)
        _beside(part, ".tag").unlink(missing_ok=True)
    return digest


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _fetch_part(url: str, part: Path, path: Path, *, progress: bool) -> None:
    """Download the rest of `part`, over as many connections as needed. Raises UserError after ATTEMPTS idle ones."""
    from tqdm import tqdm

    failures = 0
    with tqdm(desc=path.name, unit="B", unit_scale=True, disable=not progress) as bar:
        while True:
            before = _size(part)
            problem = _try(url, part, path, bar)
            if problem is None:
                return
            # Only connections without data count: a slow server that drops each one still makes progress.
            failures = 0 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise UserError(
                    f"{url}: cannot be downloaded ({problem}); is there internet? The same command resumes where it "
                    f"stopped; or put the file at {path}"
                )
            time.sleep(WAIT * 2 ** max(failures - 1, 0))


def _try(url: str, part: Path, path: Path, bar: tqdm[None]) -> str | None:
    """Download over one connection.

    Returns:
        None when the file is complete, else what ended the connection.

    Raises:
        UserError: the server refuses, so that another try is of no use.
    """
    try:
        return None if _transfer(url, part, bar) else "the connection ended early"
    except urllib.error.HTTPError as error:
        if error.code in _TRY_AGAIN:
            return f"the server replies {error.code} {error.reason}"
        raise UserError(
            f"{url}: the server replies {error.code} {error.reason}; if you have the file, put it at {path}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        return one_line(getattr(error, "reason", None) or error)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(url: str, part: Path, bar: tqdm[None]) -> bool:
    """Append to `part` over one connection. Starts anew where the server cannot resume or the file has changed.

    Returns:
        True when the file is complete.
    """
    tag_file = _beside(part, ".tag")  # the server's name for this version of the file, sent back as If-Range
    start, tag = _size(part), tag_file.read_text() if tag_file.is_file() else ""
    # identity: with compression on the way, lengths and ranges would count other bytes than those of the file.
    request = urllib.request.Request(url, headers={"User-Agent": "nmt", "Accept-Encoding": "identity"})
    if start and tag:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", tag)
    with _opened(request) as response:
        if response.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return True
            tag_file.unlink()  # our part is longer than the file: the next connection starts anew
            return False
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        bar.total, bar.n = None if length is None else start + int(length), start
        _write(tag_file, _tag(response.headers).encode())
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                _write(file, chunk)
                bar.update(len(chunk))
    return length is None or _size(part) == start + int(length)


def _write(to: Path | IO[bytes], content: bytes) -> None:
    """Write to disk. Raises UserError: a full disk is an OSError too, but must not be retried as a connection is."""
    try:
        if isinstance(to, Path):
            to.write_bytes(content)
        else:
            to.write(content)
            to.flush()
    except OSError as error:
        raise UserError(f"{to if isinstance(to, Path) else to.name}: cannot be written ({error.strerror})") from error


def _opened(request: urllib.request.Request) -> http.client.HTTPResponse | urllib.error.HTTPError:
    """Open a request. Status 416 (the requested range is empty) is returned like a response, other errors raise."""
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
        return response
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        return error


def _tag(headers: email.message.Message) -> str:
    """Return what If-Range accepts: a strong ETag, else the date of last change, else an empty string."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def unpack(archive: Path, folder: Path, *, digest: str) -> None:
    """Unpack a tar or zip archive into `folder`, unless an archive of this checksum was unpacked there before.

    Args:
        archive: the file.
        folder: where its members go; existing folders are merged, existing files replaced.
        digest: SHA-256 of the archive, kept in NAME.unpacked.

    Raises:
        UserError: damaged, or with members that would land outside the folder. Nothing of it is kept.
    """
    marker = _beside(archive, ".unpacked")
    if marker.is_file() and marker.read_text() == digest:
        return
    beside = _beside(archive, ".unpacking")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        _extract(archive, beside)
        for found in sorted(beside.iterdir()):
            _move(found, folder / found.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    with atomic_write(marker) as file:
        file.write(digest.encode())


def _move(found: Path, to: Path) -> None:
    """Move a file or folder into place, merging it into a folder that exists."""
    if found.is_dir() and not found.is_symlink() and to.is_dir():
        for inner in sorted(found.iterdir()):
            _move(inner, to / inner.name)
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    os.replace(found, to)


def _extract(archive: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, folder)
        else:
            _extract_tar(archive, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive}: damaged archive ({one_line(error)}); delete it to download it again") from error


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            _check_name(archive, member.name)
            try:
                tar.extract(member, folder, filter="data")  # refuses links that lead out, and devices
            except tarfile.FilterError as error:
                raise UserError(
                    f"{archive}: refused, its member {member.name!r} is not safe ({one_line(error)})"
                ) from error


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(f"{archive}: refused, its member {member.filename!r} is a link")
            members.extract(member, folder)


def _check_name(archive: Path, name: str) -> None:
    """Check that a member stays inside the folder, on Windows too (backslashes, drives). Raises UserError."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise UserError(f"{archive}: refused, its member {name!r} would land outside the folder")

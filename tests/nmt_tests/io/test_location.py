"""One contract for files in a folder and at an S3 address, and what a connection that breaks does to it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.io import location
from nmt.io.file_record import FileRecord
from nmt.io.location import Location, file_system


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "folder":
        return Location(str(tmp_path / "place"))
    return Location(f"{request.getfixturevalue('bucket')}/deep/place")


def put(place: Location, tmp_path: Path, name: str, content: bytes) -> FileRecord:
    source = tmp_path / "source"
    source.write_bytes(content)
    place.upload(source, name)
    return FileRecord(len(content), hashlib.sha256(content).hexdigest())


def test_what_is_uploaded_is_listed_read_downloaded_and_deleted(place: Location, tmp_path: Path) -> None:
    assert place.names() == {} and place.read("a", bytes) is None
    first = put(place, tmp_path, "a", b"first")
    second = put(place, tmp_path, "folder/b", bytes(range(200)))
    assert place.names() == {"a": 5, "folder/b": 200} and place.names("folder") == {"folder/b": 200}
    assert place.read("a", bytes.decode) == "first"
    for name, expected in (("a", first), ("folder/b", second)):
        assert place.download(name, expected, tmp_path / "here" / "copy")
        assert hashlib.sha256((tmp_path / "here" / "copy").read_bytes()).hexdigest() == expected.sha256
    put(place, tmp_path, "a", b"anew")
    assert place.names()["a"] == 4 and place.read("a", bytes) == b"anew"
    place.delete("a")
    place.delete("a")  # gone already
    assert place.names() == {"folder/b": 200}


@pytest.mark.parametrize("other", [b"SECOND", b"longer than it"])
def test_a_download_of_another_content_leaves_no_file(place: Location, tmp_path: Path, other: bytes) -> None:
    expected = put(place, tmp_path, "a", b"second")
    put(place, tmp_path, "a", other)
    assert not place.download("a", expected, tmp_path / "here" / "copy")
    assert not place.download("absent", expected, tmp_path / "here" / "copy")
    assert not [p for p in (tmp_path / "here").iterdir() if p.name == "copy"]


def test_a_download_goes_on_from_the_part_that_an_earlier_one_left(place: Location, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4
    expected = put(place, tmp_path, "a", content)
    part = tmp_path / "here" / f".copy.{expected.sha256[:12]}.part"
    part.parent.mkdir()
    part.write_bytes(content[:1000])
    assert place.download("a", expected, tmp_path / "here" / "copy")
    assert (tmp_path / "here" / "copy").read_bytes() == content and not part.exists()


def test_a_file_that_has_shrunk_since_it_was_listed_is_not_copied(place: Location, tmp_path: Path) -> None:
    put(place, tmp_path, "log", b"one two")
    place.copy("log", 3, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"one two"  # it may have grown
    with pytest.raises(UserError, match="log: cannot be read .*it ends after 7 of 9 bytes"):
        Location(place.address, attempts=1).copy("log", 9, tmp_path / "copy")


def test_content_that_does_not_parse_is_read_again_and_then_one_line(
    place: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "FIRST_PAUSE", 0.001)
    put(place, tmp_path, "a", b"x")
    seen: list[bytes] = []

    def parse(content: bytes) -> bytes:
        seen.append(content)
        if len(seen) % 3:
            raise UserError("cut short")
        return content

    assert place.read("a", parse) == b"x" and len(seen) == 3
    with pytest.raises(UserError, match="a: cannot be read after 2 attempts; .*cut short") as error:
        Location(place.address, attempts=2).read("a", parse)
    assert len(seen) == 5 and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/below/a: cannot be written") as error:
        Location(str(tmp_path / "file" / "below"), attempts=1).upload(tmp_path / "file", "a")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "kind", "root"),
    [("s3://bucket/x/", "s3", "bucket/x"), ("file:///data/x/", "local", "/data/x"), ("/data/x/..", "local", "/data")],
)
def test_an_address_names_its_file_system_and_its_path(
    address: str, kind: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fs, found = file_system(address)
    assert (fs.type_name, found) == (kind, root)


@pytest.mark.parametrize("address", ["nowhere://bucket/x", "://x"])
def test_an_address_of_no_file_system_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(UserError, match=f"{address}: not an address that can be opened") as error:
        file_system(address)
    assert "\n" not in str(error.value)

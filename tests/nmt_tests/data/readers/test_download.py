import http.server
import io
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from nmt.data.readers import download as downloads
from nmt.data.readers.download import Archive, download, fetch, unpack
from nmt.errors import UserError

CONTENT = bytes(range(256)) * 4000


class Server(http.server.ThreadingHTTPServer):
    """Serves one content with ranges; breaks off after `limits` bytes of each connection in turn."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.ranges = CONTENT, '"one"', True
        self.limits: list[int] = []
        self.status: list[int] = []
        self.requests: list[tuple[str | None, int]] = []
        """(Range header, bytes sent) of each connection"""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        if server.status:
            return self.send_error(server.status.pop(0))
        start = 0
        if asked and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return None
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        sent = body[: server.limits.pop(0)] if server.limits else body
        server.requests.append((asked, len(sent)))
        self.wfile.write(sent)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "WAIT", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def tar(**members: str) -> bytes:
    """member name -> text; a text that starts with -> is a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            if text.startswith("->"):
                member.type, member.linkname = tarfile.SYMTYPE, text[2:]
                archive.addfile(member)
            else:
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.limits = [300_000, 1, 500_000]
    digest = fetch(server.url, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [asked for asked, _ in server.requests] == [None, "bytes=300000-", "bytes=300001-", "bytes=800001-"]
    assert (tmp_path / "file.bin.sha256").read_text() == f"{digest}  file.bin\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.bin", "file.bin.sha256"]


def test_a_later_run_goes_on_with_the_part(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    server.limits = [300_000, 0, 0, 0]
    with pytest.raises(UserError, match="the connection ended early|cannot be downloaded") as error:
        fetch(server.url, tmp_path / "file.bin")
    assert "\n" not in str(error.value) and (tmp_path / "file.bin.part").stat().st_size == 300_000
    server.limits, server.requests = [], []
    fetch(server.url, tmp_path / "file.bin")
    assert server.requests == [("bytes=300000-", len(CONTENT) - 300_000)]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_that_was_whole_already_is_taken(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.tag").write_text(server.tag)
    fetch(server.url, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT and server.requests == []


@pytest.mark.parametrize("change", ["the file", "ranges"])
def test_a_part_of_another_version_is_started_anew(server, tmp_path, change):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "file.bin.part.tag").write_text('"zero"' if change == "the file" else server.tag)
    server.ranges = change == "the file"
    fetch(server.url, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_the_recorded_sum_is_compared_on_the_next_run(server, tmp_path):
    first = fetch(server.url, tmp_path / "file.bin")
    assert fetch(server.url, tmp_path / "file.bin") == first and len(server.requests) == 1
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"file\.bin: not the file that was downloaded"):
        fetch(server.url, tmp_path / "file.bin")
    (tmp_path / "file.bin").unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match="the file has changed"):
        fetch(server.url, tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path):
    server.status = [503, 429]
    fetch(server.url, tmp_path / "file.bin")
    server.status = [404]
    with pytest.raises(UserError, match=r"replies 404 Not Found; if you have .*put it at .*other"):
        fetch(server.url, tmp_path / "other.bin")


def test_no_internet_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "WAIT", 0.0)
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*\); is there internet\?") as error:
        download("voc", tmp_path / "raw", archives=[Archive("http://127.0.0.1:9/a.tar", "a.tar")])
    assert "\n" not in str(error.value)


def test_an_unknown_data_set_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="--download spiar: no such data set; did you mean 'spair'"):
        download("spiar", tmp_path)


def test_an_archive_is_fetched_and_unpacked_once(server, tmp_path):
    server.content = tar(**{"SPair/a/one.txt": "1", "SPair/two.txt": "2"})
    archives = [Archive(server.url, "set.tar.gz")]
    for _ in range(2):
        download("any", tmp_path / "raw", archives=archives)
        assert (tmp_path / "raw" / "SPair" / "a" / "one.txt").read_text() == "1"
        (tmp_path / "raw" / "SPair" / "two.txt").unlink(missing_ok=True)  # not unpacked again
    assert len(server.requests) == 1
    assert not list((tmp_path / "raw").glob("*.unpacking"))


def test_a_zip_archive_is_unpacked_into_what_is_there(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "kept.txt").write_text("kept")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("set/new.txt", "new")
    unpack(tmp_path / "set.zip", tmp_path, digest="0")
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"kept.txt", "new.txt"}


@pytest.mark.parametrize(
    "members",
    [
        {"/etc/nmt": "x"},
        {"../outside": "x"},
        {"a/../../outside": "x"},
        {"C:\\outside": "x"},
        {"link": "->/etc/passwd"},
        {"link": "->../../outside"},
        {"folder": "->/tmp", "folder/outside": "x"},
    ],
)
def test_members_that_would_land_outside_are_refused(tmp_path, members):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "set.tar.gz").write_bytes(tar(**{"fine.txt": "1", **members}))
    with pytest.raises(UserError, match=r"set\.tar\.gz: refused, its member") as error:
        unpack(tmp_path / "raw" / "set.tar.gz", tmp_path / "raw", digest="0")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "set.tar.gz"]


def test_a_device_is_refused(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        member = tarfile.TarInfo("device")
        member.type = tarfile.CHRTYPE
        archive.addfile(member)
    with pytest.raises(UserError, match="'device' is not safe"):
        unpack(tmp_path / "set.tar", tmp_path, digest="0")


@pytest.mark.parametrize("name", ["../outside", "/etc/nmt", "link"])
def test_unsafe_members_of_a_zip_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = (0o120777 if name == "link" else 0o100644) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match=r"set\.zip: refused, its member"):
        unpack(tmp_path / "set.zip", tmp_path, digest="0")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


@pytest.mark.parametrize(
    "content", [b"no archive", tar(**{"a.txt": "1" * 5000})[:60], b""], ids=["no archive", "cut", "empty"]
)
def test_a_damaged_archive_is_named(tmp_path, content):
    (tmp_path / "set.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"set\.tar\.gz: damaged archive"):
        unpack(tmp_path / "set.tar.gz", tmp_path, digest="0")


def test_every_data_set_has_a_reader_for_what_it_downloads():
    from nmt.data.readers.sources import READERS

    assert set(downloads.ARCHIVES) <= set(READERS.names())
    assert all(archive.url.startswith(("http://", "https://")) for of in downloads.ARCHIVES.values() for archive in of)
    assert Path(downloads.ARCHIVES["voc"][0].name).suffix == ".npz"

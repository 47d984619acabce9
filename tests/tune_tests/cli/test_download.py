"""`--download`: from a server on loopback into the folder that `--prepare` is then told of."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmt.data.readers import download as downloads
from nmt.data.readers.download import Archive
from tune.cli.main import main


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: the test reads what the job prints."""


@pytest.fixture
def address(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a server of the folder `served`, from which --download willow takes archive.zip."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "WAIT", 0.01)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=served)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/archive.zip"
        monkeypatch.setitem(downloads.ARCHIVES, "willow", (Archive(url, "archive.zip"),))
        yield url
        server.shutdown()


def test_what_is_downloaded_lies_where_the_printed_command_looks_for_it(address, capsys):
    with zipfile.ZipFile("served/archive.zip", "w") as archive:
        archive.writestr("Car/a.mat", "points")
    assert main(["--download", "willow", "--json"]) == 0
    out = capsys.readouterr().out
    assert "next: python run.py --prepare willow --raw data/raw/willow\n" in out
    assert json.loads(out.splitlines()[-1]) == {"raw": "data/raw/willow"}
    assert Path("data/raw/willow/Car/a.mat").read_text() == "points"


def test_an_archive_that_is_not_there_is_one_line(address, refused):
    assert f"{address}: " in refused("--download", "willow", "--raw", "elsewhere")
    assert not Path("elsewhere/Car").exists()

"""What all tests share: the photographs beside the project, S3 on loopback, and a watch over skipped tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import SHARED

# Small computations, often in several processes: more threads would only wait for each other. Before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Every write of a study, a checkpoint or a table of results is synced to its disk, which takes half of the fast tests'
# time. Their files go to memory where it has room; `--basetemp` still chooses another place.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# Commands are printed as a user gets them who types `python run.py` in an active environment (nmt.commands).
sys.argv[0] = "run.py"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """../shared/data: real photographs with keypoints; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED / "data"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if unexpected_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for test in unexpected_skips(config):
        terminalreporter.write_line(f"ERROR: skipped, and not in tests/{ALLOWED_SKIPS.name}: {test}", red=True)


def unexpected_skips(config: pytest.Config) -> list[str]:
    """Tests that were skipped although the checking machine has all they need (CI is set, ../shared is there)."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or not SHARED.is_dir() or reporter is None:
        return []
    lines = (line.partition("#")[0].strip() for line in ALLOWED_SKIPS.read_text().splitlines())
    allowed = {line for line in lines if line}
    skipped = (report.nodeid for report in reporter.stats.get("skipped", []))
    return [test for test in skipped if test.partition("[")[0] not in allowed]


class Proxy:
    """Passes connections on to a port; cuts those of `cuts` after so many bytes of the answer, those of `cut_uploads`
    after so many bytes of the request, and all of them while it is `away`."""

    def __init__(self, port: int) -> None:
        self.port, self.cuts, self.cut_uploads, self.done, self.away = port, list[int](), list[int](), 0, False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self._pass_on, args=(client, server, self.cut_uploads), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, self.cuts), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, cuts: list[int]) -> None:
        passed = 0
        try:
            while data := source.recv(1 << 16):
                passed += len(data)
                if self.away:
                    break
                if cuts and passed > cuts[0]:
                    self.done += 1
                    cuts.pop(0)
                    target.sendall(data[: len(data) // 2])
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[int]:
    """The port of an S3 server."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()[1]
    running.stop()


@pytest.fixture
def proxy(s3_server, tmp_path, monkeypatch) -> Iterator[Proxy]:
    """The way to the server, for this process and those it starts."""
    from nmt.io import location as place

    passing = Proxy(s3_server)
    for name, value in {
        "AWS_ENDPOINT_URL": passing.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NMT_CACHE": str(tmp_path / "cache"),
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(place, "FIRST_PAUSE", 0.01)
    yield passing
    passing.close()


@pytest.fixture
def bucket(proxy, request) -> str:
    """The address of a bucket of this test's own."""
    import pyarrow.fs

    host = proxy.endpoint.removeprefix("http://")
    fs = pyarrow.fs.S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1", allow_bucket_creation=True)
    name = f"bucket{abs(hash(request.node.name)) % 10**8}"
    fs.create_dir(name)
    return f"s3://{name}"

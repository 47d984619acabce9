"""What `--serve` refuses before it loads a checkpoint, and a page from its start to Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.small_model import write_checkpoint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("absent", "results/absent: no search or training there"),
        ("absent.pt", "absent.pt: no checkpoint there"),
        ("empty", "results/empty/summary.json does not exist: no search has run there"),
        ("best.pt --port 65536", "--port must be at most 65535, but got 65536"),
        ("best.pt --port http", "--port must be a whole number"),
        ("best.pt --port -1", "--port must be at least 0"),
        ("best.pt --host 0.0.0.0", "so it needs --token, such as "),
        ("best.pt --token secret", "--token must be 16 to 200 letters"),
        ("best.pt --host 192.0.2.1 --token 0123456789abcdef", "--host 192.0.2.1: no address of this machine"),
        ("best.pt --data absent", "absent/objects.arrow: not there; make it with"),
        ("best.pt --results x", "--results: best.pt is a file"),
        ("best.pt --set optim.lr=1", "optim.lr"),
    ],
)
def test_a_wrong_request_is_one_line(refused, arguments, message):
    Path("best.pt").write_bytes(b"")
    Path("results/empty").mkdir(parents=True)
    assert message in refused("--serve", *arguments.split())


def test_a_port_in_use_is_one_line_before_the_weights_are_read(refused):
    Path("best.pt").write_bytes(b"")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} is in use; choose another with --port N" in refused("--serve", "best.pt", "--port", port)


def test_a_file_that_is_no_checkpoint_is_one_line(refused):
    Path("best.pt").write_bytes(b"nothing")
    assert "best.pt: " in refused("--serve", "best.pt", "--port", "0")


@pytest.mark.slow
def test_a_page_is_served_until_ctrl_c_while_a_browser_keeps_its_connections():
    write_checkpoint(Path("best.pt"))
    command = [sys.executable, str(ROOT / "run.py"), "--serve", "best.pt", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("best.pt: loaded in ")
        url = json.loads(process.stdout.readline())["url"]
        with urllib.request.urlopen(url, timeout=60) as response:
            assert b"<h1>Match keypoints</h1>" in response.read()
        idle, sending = (socket.create_connection(("127.0.0.1", int(url[:-1].rpartition(":")[2]))) for _ in range(2))
        sending.sendall(
            b"POST /api/pictures HTTP/1.1\r\nHost: localhost\r\nContent-Type: a/b\r\nContent-Length: 9\r\n\r\n"
        )
        started = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130 and time.monotonic() - started < 30
        assert process.stderr.read() == "run.py: The page has ended.\n"
        idle.close()
        sending.close()

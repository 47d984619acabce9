"""A worker whose head is gone, or never was there, ends its machine; one whose head answers does not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.paths import ROOT

SCRIPT = ROOT / "cluster" / "orphan.sh"
LIMIT_SECONDS = 400.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    """The environment of a node's user, with the cluster's token."""
    (home / ".ray").mkdir(parents=True, exist_ok=True)
    (home / ".ray" / "auth_token").write_text("0" * 64)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return kept | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


class Watcher:
    """One run of the script, which makes a file in place of a shutdown."""

    def __init__(self, address: str, home: Path, name: str, seconds: int) -> None:
        self.ended, self.log = home / f"{name}.ended", home / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["bash", SCRIPT, address, str(seconds), "touch", self.ended], env=environment(home),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watcher]]:
    watchers: list[Watcher] = []

    def start(address: str, name: str = "first", seconds: int = 1) -> Watcher:
        watchers.append(Watcher(address, tmp_path, name, seconds))
        return watchers[-1]

    yield start
    for watcher in watchers:
        watcher.stop()


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A real head with the cluster's token: its address, and its GCS."""
    port, folder = free_port(), tempfile.mkdtemp(prefix="ray-")  # sockets need short names
    ray = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=0", "--block",
         f"--temp-dir={folder}", "--include-dashboard=false", f"--ray-client-server-port={free_port()}"],
        env=environment(tmp_path) | {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip

    def gcs() -> list[psutil.Process]:
        assert ray.poll() is None, "the head has ended"
        return [child for child in psutil.Process(ray.pid).children(recursive=True) if child.name() == "gcs_server"]

    try:
        until(gcs, "no GCS was started")
        yield f"127.0.0.1:{port}", gcs()[0]
    finally:
        # Ray ends itself where its GCS was killed, so ask for what names its folder, not for its children.
        started = [
            found for found in psutil.process_iter(["cmdline"]) if folder in " ".join(found.info["cmdline"] or [])
        ]
        for found in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.kill()
        psutil.wait_procs(started, timeout=30)
        ray.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [pytest.param(signal.SIGKILL, id="killed"), pytest.param(signal.SIGSTOP, id="frozen", marks=pytest.mark.long)],
)
def test_a_worker_outlives_its_head_for_the_given_time_only(
    head: tuple[str, psutil.Process], watch: Callable[..., Watcher], fault: signal.Signals
) -> None:
    address, gcs = head
    watcher = watch(address, seconds=90)
    until(lambda: "the head answers" in watcher.log.read_text(), "the head was never found")
    assert not watcher.ended.exists()
    gcs.send_signal(fault)
    until(watcher.ended.exists, "the machine was not ended")
    assert "no head answers" in watcher.log.read_text()


@pytest.mark.slow
def test_a_worker_that_never_finds_its_head_ends(watch: Callable[..., Watcher]) -> None:
    watcher = watch(f"127.0.0.1:{free_port()}")
    until(watcher.ended.exists, "the machine was not ended")


@pytest.mark.slow
def test_the_newest_watcher_replaces_the_others(watch: Callable[..., Watcher]) -> None:
    """`ray up` starts another one on a node that stays, perhaps with the address of another head."""
    old = watch(f"127.0.0.1:{free_port()}", "old", seconds=3000)
    until((old.log.parent / ".nmt-orphan").exists, "the first has not begun")
    first = (old.log.parent / ".nmt-orphan").read_text()
    new = watch(f"127.0.0.1:{free_port()}", "new")
    until(lambda: (old.log.parent / ".nmt-orphan").read_text() not in ("", first), "the second has not begun")
    until(new.ended.exists, "the second does not watch")
    assert not old.ended.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpu.yaml", "gpu-gcp.yaml"])
def test_the_command_of_a_cluster_file_starts_it_and_returns(name: str, tmp_path: Path) -> None:
    """With a head that is not there, a limit of a second, and a file in place of the end of this machine."""
    commands = yaml.safe_load((ROOT / "cluster" / name).read_text())["worker_start_ray_commands"]
    (command,) = (command for command in commands if "orphan.sh" in command)
    assert ":6379 600 sudo poweroff" in command
    (tmp_path / "nmt").mkdir()
    (tmp_path / "nmt" / "cluster").symlink_to(ROOT / "cluster")
    asked = tmp_path / "asked"
    # Never the command itself: a process that is left over by a killed test would end the machine.
    harmless = command.replace(":6379 600 sudo poweroff", f":{free_port()} 1 touch {asked}")
    variables = environment(tmp_path) | {"RAY_HEAD_IP": "127.0.0.1"}
    subprocess.run(["bash", "-c", harmless], env=variables, check=True, timeout=60)
    try:
        until(asked.exists, "the machine was not ended")
    finally:
        os.killpg(int((tmp_path / ".nmt-orphan").read_text()), signal.SIGKILL)

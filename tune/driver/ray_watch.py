"""Watch the processes of Ray that the driver needs, and end the driver with one line when one of them has died.

Ray itself says nothing for a minute, and then ends the process. Until then the main thread may be inside a call to the
dead process, where neither an exception nor Ctrl-C reaches it. So a thread watches, and ends the process at once. What
has to be kept is on the disk already: every file is written as if the process might be killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import psutil  # type: ignore[import-untyped]
import ray
import ray._private.worker
from ray._common.utils import get_default_system_temp_dir

from nmt.errors import one_line
from tune.results.log import log

POLL_SECONDS = 1.0
START_SECONDS, START_POLL_SECONDS = 20.0, 0.1
"""while a Ray starts, its processes appear one after the other"""
REFUSED_SECONDS = 10.0
"""how long a node of a cluster may refuse connections: its process has gone, and it may be starting again"""
SILENT_SECONDS = 45.0
"""how long it may not answer at all: the network may be at fault. Ray gives up after 60 s"""
MOST_SECONDS = 5.0
"""longest time between two looks that is counted"""
FULL_BYTES = 1 << 20
"""room that is too little for Ray's logs"""
NAMES = {"gcs_server": "the GCS (gcs_server)", "raylet": "the raylet"}
"""processes of a local Ray -> their names in messages"""


class Watched(Protocol):
    """The processes of one Ray."""

    def fault(self) -> str | None:
        """Return what has died; None if nothing has."""

    def end(self) -> None:
        """End the processes that are left and would only wait for the dead one."""


class LocalRay:
    """A Ray that this process is about to start, or is starting. An earlier one may still be ending."""

    def __init__(self) -> None:
        self._earlier = {child.pid for child in psutil.Process().children()}
        self._processes: dict[str, psutil.Process] = {}
        self._workers: list[psutil.Process] = []

    def fault(self) -> str | None:
        if len(self._processes) < len(NAMES):
            self._find()
        for name, process in self._processes.items():
            if not _alive(process):
                why = full_disk(Path(get_default_system_temp_dir())) or "killed, or crashed"
                return f"{NAMES[name]} of the local Ray has died (process {process.pid}: {why})"
        if "raylet" in self._processes:
            with contextlib.suppress(psutil.Error):
                # Remembered, because nobody can tell whose they were once the raylet has gone.
                self._workers = self._processes["raylet"].children(recursive=True)
        return None

    def _find(self) -> None:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # it has just ended
                if child.pid not in self._earlier and (name := child.name()) in NAMES:
                    self._processes.setdefault(name, child)

    def end(self) -> None:
        for process in (*self._processes.values(), *self._workers):
            with contextlib.suppress(psutil.Error):
                process.kill()


def full_disk(folder: Path) -> str | None:
    """Return that the disk of the folder of Ray's files is full, as part of a message; None if it has room."""
    with contextlib.suppress(OSError):  # not there: Ray has not come so far
        if shutil.disk_usage(folder).free < FULL_BYTES:
            return f"the disk of {folder}, where Ray keeps its files, is full; set RAY_TMPDIR to another folder"
    return None


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Cluster:
    """A Ray that others have started: its head, and the raylet of the driver's own node.

    Args:
        addresses: what is told of each, and its HOST:PORT.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        self._addresses = addresses
        self._away = dict.fromkeys(addresses, 0.0)
        self._looked = time.monotonic()

    def fault(self) -> str | None:
        # A machine that was paused has not looked for longer: that time says nothing about the others.
        passed, self._looked = min(time.monotonic() - self._looked, MOST_SECONDS), time.monotonic()
        for name, address in self._addresses.items():
            host, _, port = address.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=POLL_SECONDS).close()
                self._away[name] = 0.0
            except OSError as error:
                self._away[name] += passed
                if self._away[name] > (
                    REFUSED_SECONDS if isinstance(error, ConnectionRefusedError) else SILENT_SECONDS
                ):
                    return f"{name} at {address} is gone ({one_line(error)})"
        return None

    def end(self) -> None:
        """Leave all to the cluster: its nodes end the processes of a driver that has gone."""


def connected_cluster() -> Cluster:
    """Return what to watch of the cluster that Ray is connected to."""
    node: Any = ray._private.worker._global_node
    if node is None:  # ray://, where only the head's own machine need be reachable
        return Cluster({})
    addresses = {"the head of the Ray cluster": node.gcs_address}
    here = ray.get_runtime_context().get_node_id()
    for other in ray.nodes():
        if other["NodeID"] == here:
            addresses["the Ray node of this machine"] = f"{other['NodeManagerAddress']}:{other['NodeManagerPort']}"
    return Cluster(addresses)


class RayWatch:
    """Look every second for a process that has died, and end this one with a line.

    Args:
        watched: the processes.
        again: how to continue, for the message.
    """

    def __init__(self, watched: Watched, *, again: str) -> None:
        self._watched, self._again = watched, again
        self._over = threading.Event()
        self._looking = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Watch in the block. An error that leaves it is that of the dead process, if one has died."""
        thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)
        thread.start()
        try:
            yield
        except Exception:
            self.look()
            raise
        finally:
            self._over.set()

    def _watch(self) -> None:
        begun = time.monotonic()
        while not self._over.wait(START_POLL_SECONDS if time.monotonic() - begun < START_SECONDS else POLL_SECONDS):
            self.look()

    def look(self) -> None:
        """End this process, with one line and status 1, if a process of Ray has died."""
        with self._looking:
            fault = self._watched.fault()
            # Asked last: what died after the end of the block was ended on purpose, perhaps while this one looked.
            if fault is not None and not self._over.is_set():
                self._end(fault)

    def _end(self, fault: str) -> NoReturn:
        log.error(f"{fault}; nothing that was saved is lost: {self._again}")
        self._watched.end()
        sys.stdout.flush()
        os._exit(1)

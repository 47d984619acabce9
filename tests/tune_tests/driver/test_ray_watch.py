"""Ray's own processes die: a line says which, the driver ends at once, and nothing is left running or lost."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.paths import ROOT
from tune.driver import ray_watch
from tune.driver.ray_watch import Cluster, LocalRay, RayWatch
from tune.results.summary import load_summary

RUN = [sys.executable, "run.py"]
WAIT = 120.0


Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(): a child of this process that is called gcs_server."""
    program = tmp_path / "gcs_server"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    with contextlib.ExitStack() as stack:

        def begun() -> subprocess.Popen[bytes]:
            process = stack.enter_context(subprocess.Popen([program, "600"]))
            stack.callback(process.kill)
            return process

        yield begun


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_process_of_the_local_ray_that_was_seen_must_stay(start: Start) -> None:
    watched = LocalRay()
    child = start()
    until(lambda: watched.fault() is None and watched._processes, "not found")
    child.kill()
    until(watched.fault, "its death was not noticed")  # a zombie, because nobody has waited for it
    child.wait()
    assert watched.fault() == (
        f"the GCS (gcs_server) of the local Ray has died (process {child.pid}: killed, or crashed)"
    )
    assert LocalRay().fault() is None


def test_a_full_disk_is_named_as_the_reason(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = LocalRay()
    child = start()
    until(lambda: watched.fault() is None and watched._processes, "not found")
    monkeypatch.setattr(ray_watch, "FULL_BYTES", 1 << 62)
    child.kill()
    until(watched.fault, "its death was not noticed")
    assert "Ray keeps its files, is full; set RAY_TMPDIR to another folder)" in (watched.fault() or "")
    assert ray_watch.full_disk(Path("/nowhere")) is None


def test_a_ray_that_ends_when_the_next_one_begins_is_not_taken_for_it(start: Start) -> None:
    earlier = start()
    watched = LocalRay()
    assert watched.fault() is None
    earlier.kill()
    until(
        lambda: psutil.Process(earlier.pid).status() == psutil.STATUS_ZOMBIE, "not killed"
    )  # nobody has waited for it
    assert watched.fault() is None and LocalRay().fault() is None
    child = start()
    until(lambda: watched.fault() is None and watched._processes, "not found")
    child.kill()
    until(watched.fault, "its death was not noticed")


def test_what_is_left_of_a_local_ray_is_killed(start: Start) -> None:
    watched = LocalRay()
    child = start()
    until(lambda: watched.fault() is None and watched._processes, "not found")
    watched.end()
    assert child.wait(timeout=WAIT) == -signal.SIGKILL
    watched.end()


def test_a_cluster_that_refuses_connections_for_seconds_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster({"the head": address})
        assert cluster.fault() is None
    assert cluster.fault() is None  # it may be starting again
    monkeypatch.setattr(ray_watch, "REFUSED_SECONDS", 0.0)
    told = cluster.fault()
    assert told is not None and told.startswith(f"the head at {address} is gone (") and "refused" in told


def test_a_cluster_that_answers_again_has_all_its_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "REFUSED_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cluster = Cluster({"the head": f"127.0.0.1:{port}"})
    assert cluster.fault() is None
    time.sleep(0.3)
    with socket.create_server(("127.0.0.1", port)):
        assert cluster.fault() is None
    assert cluster.fault() is None


def test_a_machine_that_was_paused_waits_for_the_cluster_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("tune.driver.ray_watch.time", SimpleNamespace(monotonic=lambda: now[0]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cluster = Cluster({"the head": f"127.0.0.1:{port}"})
    for pause in (1.0, 4000.0, 1.0):  # its network comes back a moment after it
        now[0] += pause
        assert cluster.fault() is None
    for _ in range(4):
        now[0] += 1.0
        told = cluster.fault()
    assert told is not None and "is gone" in told


DIES = """
import sys, time
from tune.driver.ray_watch import RayWatch
from tune.results.log import to_console
class Dying:
    ended = False
    def fault(self): return "it has died" if {dead} else None
    def end(self): print("the rest is killed")
to_console()
with RayWatch(Dying(), again="try again").running():
    {work}
"""


@pytest.mark.parametrize("work", ["time.sleep(600)", "1 / 0"])  # deaf to all; sooner than the watch
def test_the_process_ends_with_a_line_whatever_it_is_doing(work: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DIES.format(dead=True, work=work)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (ran.returncode, ran.stdout) == (1, "the rest is killed\n")
    assert ran.stderr == "run.py: it has died; nothing that was saved is lost: try again\n"


ENDED = """
import threading
from tune.driver.ray_watch import RayWatch

class Ended:
    def __init__(self):
        self.looks, self.over = threading.Event(), threading.Event()
    def fault(self):
        self.looks.set()
        assert self.over.wait(60)
        return "it has died"
    def end(self):
        print("the rest is killed")

watched = Ended()
with RayWatch(watched, again="try again").running():
    assert watched.looks.wait(60)
watched.over.set()  # as ray.shutdown() ends Ray
for thread in threading.enumerate():
    if thread.name == "ray-watch":
        thread.join(60)
print("well")
"""


def test_a_ray_that_is_ended_on_purpose_while_the_watch_looks_has_not_died() -> None:
    ran = subprocess.run([sys.executable, "-c", ENDED], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "well\n", "")


def test_an_error_of_the_work_stays_its_own_while_nothing_is_dead() -> None:
    with pytest.raises(ZeroDivisionError), RayWatch(LocalRay(), again="").running():
        _ = 1 / 0


def of_ray(pid: int) -> list[psutil.Process]:
    """The processes below the driver."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def named(pid: int, name: str) -> list[psutil.Process]:
    found = []
    for process in of_ray(pid):
        with contextlib.suppress(psutil.Error):
            if process.name() == name:
                found.append(process)
    return found


def kill_in(command: list[str], name: str, *, after: Callable[[], object], then: int | None = None) -> str:
    """Run the command, kill the process `name` of its Ray after something; return the line that it ended with."""
    with subprocess.Popen(
        RUN + command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as driver:
        until(lambda: driver.poll() is not None or named(driver.pid, name), f"{name} never ran")
        until(lambda: driver.poll() is not None or after(), "it never began")
        others = of_ray(driver.pid)
        (process,) = named(driver.pid, name)
        process.kill()
        if then is not None:
            driver.send_signal(then)
        out, errors = driver.communicate(timeout=WAIT)
    assert driver.returncode == 1 and "Traceback" not in out, out + errors
    assert len(errors.splitlines()) == 1, errors
    assert not psutil.wait_procs(others, timeout=10)[1], "left running"
    return errors


@pytest.fixture
def command(space_file: Path, tiny_data: Path, tmp_path: Path) -> list[str]:
    space_file.write_text(space_file.read_text().replace("steps_per_epoch = 4", "steps_per_epoch = 100"))
    return ["--search", str(space_file), "--data", str(tiny_data), "--results", str(tmp_path / "results")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "then"), [pytest.param("raylet", None, marks=pytest.mark.long), ("gcs_server", signal.SIGINT)]
)
def test_a_search_whose_ray_dies_ends_with_a_line_and_resumes(
    command: list[str], tmp_path: Path, name: str, then: int | None
) -> None:
    results = tmp_path / "results/tiny"
    line = kill_in(command, name, after=lambda: list(results.glob("trials/*/metrics.jsonl")), then=then)
    assert ray_watch.NAMES[name] in line and line.endswith("continue with --resume\n")
    assert line.removeprefix("run.py: ") in (results / "search.log").read_text()
    if name == "raylet":
        resumed = subprocess.run([*RUN, *command, "--resume"], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert resumed.returncode == 0, resumed.stderr
        summary = load_summary(results)
        assert len(summary.trials) == 5 and summary.finished


@pytest.mark.long
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_a_ray_that_dies_while_it_starts_or_is_checked_is_one_line_too(
    command: list[str], name: str, seconds: float
) -> None:
    """On two idle cores, Ray takes 3 s to start. The checks come next."""
    begun: list[float] = []

    def waited() -> bool:
        begun[:] = begun or [time.monotonic()]
        return time.monotonic() - begun[0] >= seconds

    assert "has died" in kill_in(command, name, after=waited)

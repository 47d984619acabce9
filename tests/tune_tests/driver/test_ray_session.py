"""Ray as a search starts it: what its processes know, and what becomes of it afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from nmt.errors import UserError
from tests.paths import ROOT
from tune.driver.ray_session import ENVIRONMENT, PASSED_ON, check_reachable, ray_session

SESSION = """
import os
import signal
import ray
from tests.tune_tests.driver.sockets import listening
from tune.driver.ray_session import ENVIRONMENT, ray_session

@ray.remote(num_cpus=0)
def handlers():
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN, signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

@ray.remote(num_cpus=0)
def seen(names):
    return {name: os.environ.get(name) for name in names}

with ray_session():
    with ray_session():
        pass
    assert ray.is_initialized(), "an inner session ended the Ray of the outer one"
    there = ray.get(seen.remote([*ENVIRONMENT, "NMT_EXTENSIONS", "AWS_REGION", "AWS_ENDPOINT_URL"]))
    assert ray.get(handlers.remote()) == (False, True), "SIGINT must reach a task, SIGHUP must not"
    addresses = listening(os.getpid())
    assert len(addresses) > 5 and set(addresses) == {"127.0.0.1"}, addresses
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    passed_on = ray.get_runtime_context().runtime_env["env_vars"]
    assert {name: there[name] for name in ENVIRONMENT} == ENVIRONMENT, there
    assert there["NMT_EXTENSIONS"] == "json,csv" and there["AWS_REGION"] == "here", there
    assert there["AWS_ENDPOINT_URL"] is None, there
    assert passed_on == ENVIRONMENT | {"NMT_EXTENSIONS": "json,csv", "AWS_REGION": "here"}, passed_on
assert not ray.is_initialized(), "Ray still runs"
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Restore the variables that a session sets in this process."""
    for name in (*ENVIRONMENT, "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_tasks_have_the_environment_of_the_search_and_its_extensions_but_no_secret() -> None:
    given = {"NMT_EXTENSIONS": "json,csv", "AWS_REGION": "here", "AWS_SECRET_ACCESS_KEY": "hidden"}
    others = {k: v for k, v in os.environ.items() if k not in {*ENVIRONMENT, *PASSED_ON, "RAY_ADDRESS"}}
    ran = subprocess.run(
        ["bash", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, SESSION],  # as in the background of a script
        cwd=ROOT, env=others | given, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""


def test_a_ray_address_is_used_and_no_ray_is_started_beside_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RAY_ADDRESS", "nowhere://127.0.0.1:1")
    with pytest.raises(UserError, match="nowhere:.*no Ray head answers there"), ray_session():
        pytest.fail("a Ray of its own was started")
    assert not ray.is_initialized()


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_a_dead_address_is_one_line_at_once(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_reachable(form.format(port))
    with pytest.raises(UserError, match=rf"^RAY_ADDRESS=.*:{port}: no Ray head answers there .*; start the cluster"):
        check_reachable(form.format(port))


@pytest.mark.parametrize("address", ["local", "auto", "nowhere", "host:name", "ray://host"])
def test_addresses_of_other_forms_are_left_to_ray(address: str) -> None:
    check_reachable(address)


@pytest.mark.parametrize("kind", ["a file", "nowhere", "a long path"])
def test_a_folder_that_ray_cannot_use_is_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = {"a file": tmp_path / "file", "nowhere": Path("/proc/nowhere"), "a long path": tmp_path / ("x" * 110)}[
        kind
    ]
    program = "from tune.driver.ray_session import ray_session\nwith ray_session(): pass"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "RAY_TMPDIR": str(folder)}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith(f"nmt.errors.UserError: {folder}/ray: Ray cannot keep its files there ("), done.stderr
    assert told.endswith("; set RAY_TMPDIR to a folder that can be written and has a short path")

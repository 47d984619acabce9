"""The token of a local Ray is the user's own and no other's, wherever its file can and cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.paths import ROOT
from tune.cluster.access import MODE, NO_METRICS, private_token, secure_local_ray

VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", *MODE, *NO_METRICS)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the token of a new user would be; the variables that a session sets are restored."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray" / "auth_token"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_for_its_user_alone_and_kept(token: Path) -> None:
    secure_local_ray()
    made = token.read_text()
    assert len(made) == 64 and mode(token) == 0o600 and mode(token.parent) == 0o700
    secure_local_ray()
    assert token.read_text() == made
    assert os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in os.environ
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize("before", [0o644, 0o640, 0o666, 0o604])
def test_a_token_that_others_could_read_becomes_private(token: Path, before: int) -> None:
    token.parent.mkdir()
    token.write_text("known")
    token.chmod(before)
    assert private_token(make=False)
    assert mode(token) == 0o600 and token.read_text() == "known"


def test_an_empty_token_is_replaced_when_one_may_be_made(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("\n")
    assert not private_token(make=False)
    assert private_token(make=True) and len(token.read_text()) == 64 and mode(token) == 0o600


def test_searches_that_begin_at_once_share_one_token(token: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: private_token(make=True) and token.read_text(), range(32)))
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def no_folder(token: Path) -> None:
    token.parent.write_text("a file where Ray's folder should be")


def no_file(token: Path) -> None:
    token.mkdir(parents=True)


def not_text(token: Path) -> None:
    token.parent.mkdir()
    token.write_bytes(b"\xff\xfe")


def of_another_user(token: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    token.parent.mkdir()
    token.write_text("known to its owner")
    os.chown(token, 12345, 12345)


@pytest.mark.parametrize("spoil", [no_folder, no_file, not_text, of_another_user])
def test_where_no_private_file_can_be_the_token_is_in_the_environment(token: Path, spoil: object) -> None:
    assert callable(spoil)
    spoil(token)
    secure_local_ray()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_that_the_user_gives_is_left_alone(token: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/given")
    secure_local_ray()
    assert os.environ[name] == "/given" and not token.exists()
    assert sum(variable in os.environ for variable in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")) == 1


@pytest.mark.parametrize("name", ["cluster/node.sh", "Dockerfile"])
def test_nodes_and_pods_open_no_port_for_metrics_either(name: str) -> None:
    words = (ROOT / name).read_text().split()
    assert all(f"{key}={value}" in words for key, value in NO_METRICS.items())


SESSION = """
import os, subprocess, sys
import ray
from tune.driver.ray_session import ray_session

with ray_session():
    address = ray.get_runtime_context().gcs_address
    assert ray.get(ray.remote(num_cpus=0)(lambda: os.environ["RAY_AUTH_MODE"]).remote()) == "token"
    assert [node["MetricsExportPort"] for node in ray.nodes()] == [-1], "Ray exports metrics"
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    kept["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray looks for it at this machine's other address
    known = {key: value for key, value in os.environ.items() if key == "RAY_AUTH_TOKEN"} | {"RAY_AUTH_MODE": "token"}
    for token, answers in ((known, True), ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, False)):
        done = subprocess.run(check, env=kept | token, capture_output=True, text=True, timeout=100)
        assert (done.returncode == 0) == answers, (token.keys(), done.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", ["own", "not to be written"])
def test_a_local_ray_answers_only_who_knows_the_token(tmp_path: Path, home: str) -> None:
    others = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    ran = subprocess.run(
        [sys.executable, "-c", SESSION], cwd=ROOT, capture_output=True, text=True, timeout=400,
        env=others | {"HOME": str(tmp_path) if home == "own" else "/proc/nowhere", "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / ".ray" / "auth_token").is_file() == (home == "own")

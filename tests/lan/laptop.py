"""The commands of a user on the laptop of lan.sh, to run a search on two own hosts: laptop.py FOLDER SPACE DATA.

They follow docs/cluster.md, "Your own hosts". Every step must succeed. FOLDER is the storage that all hosts see.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"head": "10.99.0.2", "worker": "10.99.0.3"}
DASHBOARD = "http://127.0.0.1:8265"
STARTED = time.monotonic()


def report(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def run(*command: str, limit: float = 300, **environment: str) -> str:
    """Run the command and return what it prints; exit if it fails."""
    report(" ".join(command))
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, timeout=limit, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    print(done.stdout, flush=True)
    if done.returncode:
        raise SystemExit(f"exit status {done.returncode} of {command}")
    return done.stdout


def ssh(host: str, command: str) -> str:
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    words = [word for option in options for word in ("-o", option)]
    target = f"root@{HOSTS[host]}"
    return subprocess.run(
        ["ssh", "-i", os.environ["LAN_KEY"], *words, target, command], text=True, capture_output=True, check=False
    ).stdout


def until(condition: Callable[[], bool], what: str, limit: float) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {limit:g} s: {what}")
        time.sleep(0.5)


def fill_in(folder: Path) -> Path:
    """Write cluster/local.yaml with its values. Each host has two cores, so a trial of two workers needs both hosts."""
    text = (ROOT / "cluster" / "local.yaml").read_text()
    for old, new in (
        ("&head CHANGE-ME", f"&head {HOSTS['head']}"),
        ("&workers [CHANGE-ME]", f"&workers [{HOSTS['worker']}]"),
        ("&user CHANGE-ME", "&user root"),
        ("&key ~/.ssh/id_ed25519", f"&key {os.environ['LAN_KEY']}"),
        ("--node-ip-address=$NODE_IP", "--node-ip-address=$NODE_IP --num-cpus=2"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "local.yaml"
    path.write_text(text)
    return path


def install() -> None:
    """Give each host the packages of this machine, so that `make setup EXTRAS=` there finds its work done."""
    variables = subprocess.run(
        ["make", "-pn", "setup", "EXTRAS="], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout
    stamp = re.search(r"^STAMP := \.venv/(\S+)$", variables, re.MULTILINE)
    assert stamp
    for name in HOSTS:
        environment = Path(os.environ["LAN_DIR"], name, "home", "nmt", ".venv")
        environment.mkdir(parents=True)
        for part in ("bin", "lib", "pyvenv.cfg"):
            (environment / part).symlink_to(Path(sys.prefix, part))
        (environment / stamp[1]).touch()


@contextlib.contextmanager
def dashboard(cluster: Path) -> Iterator[None]:
    """Run `ray dashboard`, which makes the head's port 8265 reachable on this machine, through ssh."""
    tunnel = subprocess.Popen(["ray", "dashboard", str(cluster)], cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        until(answers, "ray dashboard", 60)
        yield
    finally:
        tunnel.terminate()
        tunnel.wait()


def answers() -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", 8265)) == 0


def status_without_token() -> int:
    try:
        with urllib.request.urlopen(f"{DASHBOARD}/api/jobs/", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def ray_processes(host: str) -> list[str]:
    """List Ray's processes on the host, without zombies: a host without an init process keeps those."""
    lines = ssh(host, "ps -eo stat=,args=").splitlines()
    return [line for line in lines if re.search(r"raylet|gcs_server|ray::|/ray/", line) and not line.startswith("Z")]


def check_access(host: str) -> None:
    """Exit unless the host's token is its user's alone and no port is open for metrics."""
    mode = ssh(host, "stat -c %a ~/.ray/auth_token").strip()
    lines = ssh(host, "ss -ltnpH").splitlines()
    ports = {re.findall(r":(\d+) ", line)[0] for line in lines}
    agent = {re.findall(r":(\d+) ", line)[0] for line in lines if "ray::DashboardA" in line}
    report(f"{host}: token {mode}, ports {sorted(ports)}, Ray's agent {sorted(agent)}")
    if mode != "600" or len(agent) != 2 or ports & {"44217", "44227"}:  # its gRPC and 52365
        raise SystemExit(f"{host}: the token or a port of metrics is open to others")


def without_ray(host: str) -> Callable[[], bool]:
    return lambda: not ray_processes(host)


def main(folder: Path, space: Path, data: Path) -> None:
    cluster = fill_in(folder)
    run("ray", "get-auth-token", "--generate")
    run(sys.executable, "-m", "tune.cluster", str(cluster))
    install()
    run("ray", "up", "-y", "--no-config-cache", str(cluster), limit=600)
    run("ray", "exec", str(cluster), "python -m tune.cluster.nodes 2", limit=600)
    for host in HOSTS:
        check_access(host)
    with dashboard(cluster):
        report(f"without a token the dashboard answers {status_without_token()}")
        if status_without_token() != 401:
            raise SystemExit("the dashboard is open to all")
        search = f"python run.py --search {space} --workers 2 --data {data} --results {folder}/results"
        run(
            "ray", "job", "submit", "--address", DASHBOARD, "--", *search.split(),
            RAY_AUTH_MODE="token", limit=900,
        )  # fmt: skip
    for host in HOSTS:
        if not any("raylet" in process for process in ray_processes(host)):
            raise SystemExit(f"{host} runs no Ray: it cannot be seen to end")
    run("ray", "down", "-y", str(cluster), limit=300)
    for host in HOSTS:
        until(without_ray(host), f"{host} without Ray", 300)
        report(f"{host} runs no process of Ray")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))

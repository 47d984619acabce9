"""`ray up` of cluster/local.yaml over real ssh, a search with a token on two hosts, `ray down`: as a user does it.

Each host has room for one worker, so the two workers of a trial are on two hosts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmt.config import load_config
from nmt.training.history import read_metrics
from nmt.training.loop import train
from tests.paths import ROOT

LAN = ROOT / "tests" / "lan"
LIMIT_SECONDS = 1800

SPACE = """
description = "a trial of two workers, one a host"

[base]
data = { name = "tiny", mode = "features", image_size = 32, pairs_per_step = 4, eval_pairs = 40 }
model = { backbone = "tiny", weights = "random", d_model = 16, heads = 2, decoder_layers = 1, mlp_multiplier = 2.0 }
optim = { lr = 1e-3, milestones = [] }
train = { epochs = 2, steps_per_epoch = 4 }

[space]
"optim.lr" = { low = 1e-5, high = 1e-1, log = true }

[search]
trials = 1

[resources]
cpus = 2
"""
HALVES = 1e-5
"""largest difference that the order of additions makes: two workers add their halves of the gradients"""


def missing() -> str:
    """Why hosts in namespaces cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces with networks of their own"
    tools = [tool for tool in ("sshd", "ssh", "rsync", "ip", "unshare", "pgrep") if shutil.which(tool) is None]
    if tools and not (tools == ["sshd"] and Path("/usr/sbin/sshd").exists()):
        return f"needs {', '.join(tools)}: apt-get install openssh-server rsync iproute2"
    words = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "true"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"namespaces are not allowed: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder that the hosts can share: each has a /dev/shm of its own, where pytest's folders may lie."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_ray_up_runs_a_search_on_two_hosts_and_ray_down_leaves_nothing(on_disk: Path, tiny_data: Path) -> None:
    tmp_path, data = on_disk, Path(shutil.copytree(tiny_data, on_disk / "tiny"))
    space = tmp_path / "two_hosts.toml"
    space.write_text(SPACE)
    shared = {ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), tmp_path}
    ran = subprocess.run(
        [LAN / "lan.sh", sys.executable, LAN / "laptop.py", tmp_path, space, data],
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": os.environ["HOME"],
            "SHARE": " ".join(map(str, shared)),
            "PYTHONPATH": str(ROOT),
        },
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout[-3000:]
    results = tmp_path / "results" / "two_hosts"
    (trial,) = json.loads((results / "summary.json").read_text())["trials"]
    assert (trial["state"], trial["epochs"]) == ("COMPLETE", 2)
    folder, alone = results / "trials" / trial["id"], tmp_path / "alone"
    (group,) = json.loads((folder / "hosts.json").read_text())
    assert sorted(worker["host"] for worker in group["workers"]) == ["head", "worker"]
    assert (results / trial["checkpoint"]).is_file()
    train(load_config(folder / "config.json"), data=data, directory=alone)
    for name in ("train/loss", "val/accuracy"):
        one, two = ([epoch[name] for epoch in read_metrics(place)] for place in (alone, folder))
        assert two == pytest.approx(one, abs=HALVES)
    assert json.loads((results / "best.json").read_text())["train"]["epochs"] == 2

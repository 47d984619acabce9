"""A search counts the nodes that an autoscaler may start, and brings them by waiting for them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from nmt.errors import UserError
from tests.paths import ROOT
from tune.cluster.growth import may_start
from tune.driver.room import concurrency
from tune.spaces.settings import Resources


@pytest.fixture(autouse=True)
def on_the_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("NMT_MAY_START", raising=False)


def test_of_cluster_gpu_yaml_eight_gpu_nodes_may_start(tmp_path: Path) -> None:
    text = (ROOT / "cluster" / "gpu.yaml").read_text()
    (tmp_path / "ray_bootstrap_config.yaml").write_text(text)
    assert may_start(0) == [{"CPU": 8, "GPU": 1}] * 8
    assert may_start(5) == [{"CPU": 8, "GPU": 1}] * 3
    assert may_start(9) == []
    assert concurrency(Resources(cpus=4, gpus=0.5), [{"CPU": 0.0}, *may_start(0)]) == 16
    assert concurrency(Resources(cpus=8, gpus=1, workers=4), [{"CPU": 0.0}, *may_start(0)]) == 2


def test_of_own_hosts_none_may_start_that_is_not_there(tmp_path: Path) -> None:
    """What Ray makes of a `provider: local` names no resources."""
    types = {"local.cluster.node": {"resources": {}, "node_config": {}, "max_workers": 2}}
    config = {"available_node_types": types, "head_node_type": "local.cluster.node", "max_workers": 2}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config))
    assert may_start(0) == []


def test_on_kubernetes_a_variable_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_MAY_START", '[{"CPU": 7, "GPU": 1, "nodes": 2}, {"CPU": 96, "GPU": 8, "nodes": 1}]')
    assert may_start(0) == [{"CPU": 96, "GPU": 8}, {"CPU": 7, "GPU": 1}, {"CPU": 7, "GPU": 1}]
    monkeypatch.setenv("NMT_MAY_START", "8")
    with pytest.raises(UserError, match="NMT_MAY_START: '8' cannot be read; write it like"):
        may_start(0)


def test_the_variable_of_cluster_kuberay_yaml_is_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    items = yaml.safe_load((ROOT / "cluster" / "kuberay.yaml").read_text())["items"]
    (cluster,) = (item["spec"] for item in items if item["kind"] == "RayCluster")
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    monkeypatch.setenv("NMT_MAY_START", {entry["name"]: entry["value"] for entry in head["env"]}["NMT_MAY_START"])
    group = cluster["workerGroupSpecs"][0]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert may_start(0) == [{"CPU": int(limits["cpu"]), "GPU": int(limits["nvidia.com/gpu"])}] * group["maxReplicas"]


def test_ray_on_this_machine_grows_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ray_bootstrap_config.yaml").write_text((ROOT / "cluster" / "gpu.yaml").read_text())
    monkeypatch.delenv("RAY_ADDRESS")
    assert may_start(0) == []


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network of its own")
def test_a_search_that_has_no_node_yet_makes_the_autoscaler_start_as_many_as_it_can_use(
    tmp_path: Path, tiny_data: Path, space_text: str
) -> None:
    space = tmp_path / "grown.toml"
    space.write_text(
        space_text.replace("epochs = 4", "epochs = 1").replace("trials = 5", "trials = 3") + "\n[resources]\ncpus = 2\n"
    )
    inside = f"ip link set lo up && exec {sys.executable} {ROOT / 'tests/lan/autoscaled.py'} $0 $1 $2"
    with tempfile.TemporaryDirectory(prefix="grown") as short:  # the paths of sockets in it have 107 characters
        ran = subprocess.run(
            ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "bash", "-c", inside,
             space, tiny_data, tmp_path / "results"],
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(tmp_path), "RAY_TMPDIR": short, "PYTHONPATH": str(ROOT),
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=1500,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "2 at once" in ran.stdout
    trials = json.loads((tmp_path / "results" / "grown" / "summary.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3
    counts = {when: int(count) for when, count in re.findall(r"nodes (\w+): (\d+)", ran.stdout)}
    assert counts == {"before": 1, "after": 3}

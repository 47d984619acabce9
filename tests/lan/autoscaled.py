"""Run a search on a cluster that has no node for it yet: autoscaled.py SPACE DATA RESULTS, in a network of its own.

Ray's own autoscaler starts the nodes, as processes of this machine (its provider `fake_multinode`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

ROOT = Path(__file__).resolve().parents[2]
FILE = Path("~/ray_bootstrap_config.yaml").expanduser()


def cluster() -> dict[str, Any]:
    """The cluster file that `ray up` leaves on the head, with processes in place of machines."""
    node: dict[str, Any] = {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 2}
    head = {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    lists = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
             "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude",
             "rsync_filter")  # fmt: skip
    return {
        "cluster_name": "nmt",
        "max_workers": 2,
        "idle_timeout_minutes": 10,
        "upscaling_speed": 4,
        "docker": {},
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "provider": {
            "type": "fake_multinode",
            "head_node_id": FAKE_HEAD_NODE_ID,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {FAKE_HEAD_NODE_TYPE: head, "cpu-spot": node, "cpu-on-demand": node},
        **{name: [] for name in lists},
    }


def start() -> None:
    FILE.write_text(yaml.safe_dump(cluster()))
    subprocess.run(
        ["ray", "start", "--head", "--num-cpus=0", f"--autoscaling-config={FILE}"],
        env=os.environ
        | {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "0",
            "RAY_AUTOSCALER_UTILIZATION_SCORER": "tune.cluster.fallback.score",
        },
        check=True,
    )


def alive() -> int:
    return sum(node["Alive"] for node in ray.nodes())


def main(space: str, data: str, results: str) -> None:
    start()
    ray.init(address="auto", log_to_driver=False)
    print("nodes before:", alive(), flush=True)
    command = [sys.executable, "run.py", "--search", space, "--data", data, "--results", results]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"RAY_ADDRESS": "auto"}, check=True)
    print("nodes after:", alive(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])

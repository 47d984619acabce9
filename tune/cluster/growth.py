"""Nodes that a cluster has not started yet: an autoscaling one begins with none that could run a trial.

Ray tells a driver what there is, not what there may be. On the head of a `ray up` the cluster's own file says so; where
there is none, as on Kubernetes, NMT_MAY_START does: [{"CPU": 7, "GPU": 1, "nodes": 8}].
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nmt.errors import UserError

FILE = Path("~/ray_bootstrap_config.yaml")
VARIABLE = "NMT_MAY_START"


def may_start(alive: int) -> list[dict[str, float]]:
    """The resources of each node that the autoscaler may add to `alive` worker nodes; none without an autoscaler.

    For a driver on the head of the cluster at RAY_ADDRESS. Raises UserError where NMT_MAY_START cannot be read.
    """
    if "RAY_ADDRESS" not in os.environ:
        return []
    if VARIABLE in os.environ:
        try:
            kinds = [(int(kind.pop("nodes")), kind) for kind in json.loads(os.environ[VARIABLE])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            right = '[{"CPU": 7, "GPU": 1, "nodes": 8}]'
            raise UserError(f"{VARIABLE}: {os.environ[VARIABLE]!r} is not like {right}") from error
        return _nodes(kinds, sum(count for count, _ in kinds) - alive)
    path = FILE.expanduser()
    if not path.is_file():
        return []
    config: Mapping[str, Any] = yaml.safe_load(path.read_text())
    types = config.get("available_node_types", {})
    workers = [node for name, node in types.items() if name != config.get("head_node_type")]
    return _nodes([(node["max_workers"], node["resources"]) for node in workers], config["max_workers"] - alive)


def _nodes(kinds: list[tuple[int, Mapping[str, float]]], room: int) -> list[dict[str, float]]:
    """As many nodes as there is room for, of those with most GPUs and cores first."""
    largest = sorted(kinds, key=lambda kind: (kind[1].get("GPU", 0), kind[1].get("CPU", 0)), reverse=True)
    nodes = [dict(resources) for count, resources in largest for _ in range(count)]
    return nodes[: max(room, 0)]

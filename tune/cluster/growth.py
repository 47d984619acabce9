"""Nodes that an autoscaling cluster may still start; it begins with none that could run a trial.

Ray reports the nodes that exist, not those that may be started. The head of a `ray up` cluster has the cluster file,
which lists them. Elsewhere, as on Kubernetes, the variable NMT_MAY_START does: [{"CPU": 7, "GPU": 1, "nodes": 8}].
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
"""path of the cluster file that `ray up` copies to the head"""
VARIABLE = "NMT_MAY_START"


def may_start(alive: int) -> list[dict[str, float]]:
    """List the resources of each node that the autoscaler may add. Call it on the head of the cluster at RAY_ADDRESS.

    Args:
        alive: number of worker nodes that run already.

    Returns:
        Resource -> amount, one dictionary per node, largest nodes first; empty without an autoscaler.

    Raises:
        UserError: NMT_MAY_START cannot be read.
    """
    if "RAY_ADDRESS" not in os.environ:
        return []
    if VARIABLE in os.environ:
        try:
            kinds = [(int(kind.pop("nodes")), kind) for kind in json.loads(os.environ[VARIABLE])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            right = '[{"CPU": 7, "GPU": 1, "nodes": 8}]'
            raise UserError(f"{VARIABLE}: {os.environ[VARIABLE]!r} cannot be read; write it like {right}") from error
        return _nodes(kinds, sum(count for count, _ in kinds) - alive)
    path = FILE.expanduser()
    if not path.is_file():
        return []
    config: Mapping[str, Any] = yaml.safe_load(path.read_text())
    types = config.get("available_node_types", {})
    workers = [node for name, node in types.items() if name != config.get("head_node_type")]
    return _nodes([(node["max_workers"], node["resources"]) for node in workers], config["max_workers"] - alive)


def _nodes(kinds: list[tuple[int, Mapping[str, float]]], room: int) -> list[dict[str, float]]:
    """List at most `room` nodes of the given (number, resources), those with most GPUs and cores first."""
    largest = sorted(kinds, key=lambda kind: (kind[1].get("GPU", 0), kind[1].get("CPU", 0)), reverse=True)
    nodes = [dict(resources) for count, resources in largest for _ in range(count)]
    return nodes[: max(room, 0)]

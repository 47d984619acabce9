"""How many workers and trials fit on the nodes of a cluster."""

from __future__ import annotations

import ray
import ray.tune

from nmt.errors import UserError
from tune.cluster.growth import may_start
from tune.spaces.settings import Resources


def concurrency(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """How many trials run at once, each with all its workers, on nodes with these resources.

    One where there is room for less than that, but for its fewest workers. Raises UserError if not even so.
    """
    workers = room(resources, nodes)
    if workers >= resources.fewest:
        return max(workers // resources.workers, 1)
    needed = f"{resources.cpus} CPUs" + (f" and {resources.gpus:g} GPUs" if resources.gpus else "")
    there = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
    raise UserError(
        f"not enough resources for one trial: it takes {resources.fewest} worker{'s' * (resources.fewest > 1)} "
        f"of {needed} ([resources]), and there are {there}"
    )


def room(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """How many workers fit on the nodes."""
    return sum(_workers_on(resources, node) for node in nodes)


def _workers_on(resources: Resources, node: dict[str, float]) -> int:
    fit = node.get("CPU", 0) // resources.cpus
    return int(min(fit, node.get("GPU", 0) // resources.gpus) if resources.gpus else fit)


def node_resources() -> list[dict[str, float]]:
    """Of every node, those included that an autoscaler may still start."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return there + may_start(len(there) - 1)

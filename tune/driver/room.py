"""Count the workers and trials that fit on the nodes of a cluster."""

from __future__ import annotations

import ray
import ray.tune

from nmt.errors import UserError
from tune.cluster.growth import may_start
from tune.spaces.settings import Resources


def concurrency(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """Return the number of trials that run at once, each with all its workers, on nodes with these resources.

    It is 1 if there is only room for a trial with its fewest workers.

    Raises:
        UserError: there is not even room for the fewest workers.
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
    """Return the number of workers that fit on the nodes."""
    return sum(workers_on(resources, node) for node in nodes)


def workers_on(resources: Resources, node: dict[str, float]) -> int:
    """Return the number of workers that fit on one node."""
    fit = node.get("CPU", 0) // resources.cpus
    return int(min(fit, node.get("GPU", 0) // resources.gpus) if resources.gpus else fit)


def node_resources() -> list[dict[str, float]]:
    """Return the resources of every live node, and of every node that an autoscaler may still start."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return there + may_start(len(there) - 1)

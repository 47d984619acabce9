"""Scorer for Ray's autoscaler: spot nodes first, on-demand nodes while the cloud has no spot ones.

Ray records for half an hour which types of node could not be started (AUTOSCALER_NODE_AVAILABILITY_MAX_STALENESS_S).
Its own scorer does not read that record and requests the same type for ever. The newer autoscaler of Ray 2.60 records
nothing when the cloud replies with an error, as EC2 does. Clusters therefore run the older one, with
RAY_enable_autoscaler_v2=0 RAY_AUTOSCALER_UTILIZATION_SCORER=tune.cluster.fallback.score at `ray start --head`.
"""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer

SPOT = "-spot"
"""suffix of the names of spot node types"""


def score(
    node_resources: Any,
    resources: Any,
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[Any, ...] | None:
    """Score how well a type of node serves the demands. Ray's autoscaler calls it.

    Between types that serve equally well, an available one wins over one that could not be started, then spot wins.

    Args:
        node_resources: resources of one node of the type.
        resources: the demands.
        node_type: name of the type.
        node_availability_summary: Ray's record of failed starts.

    Returns:
        A tuple, larger is better; None when the type serves none of the demands.
    """
    fit = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if fit is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    return (*fit, record is None or record.is_available, node_type.endswith(SPOT))

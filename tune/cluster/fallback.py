"""Spot nodes first, and while the cloud has none on-demand ones: a scorer for Ray's autoscaler.

Ray notes which types of node could not be started (for half an hour, AUTOSCALER_NODE_AVAILABILITY_MAX_STALENESS_S) but
its own scorer does not read that, and asks for the same type for ever. The newer autoscaler of Ray 2.60 does not even
note it where the cloud answers with an error, as EC2 does; so clusters run the older, with
RAY_enable_autoscaler_v2=0 RAY_AUTOSCALER_UTILIZATION_SCORER=tune.cluster.fallback.score at `ray start --head`.
"""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer

SPOT = "-spot"
"""the end of the name of a type of spot nodes"""


def score(
    node_resources: Any,
    resources: Any,
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[Any, ...] | None:
    """How well a type of node would serve the demands, higher is better; None: not at all. Called by Ray's autoscaler.

    Where two types would serve alike, the one that can be had goes before the one that could not, and spot first.
    """
    fit = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if fit is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    return (*fit, record is None or record.is_available, node_type.endswith(SPOT))

"""The order in which Ray's own scheduler asks for types of nodes with our scorer."""

from __future__ import annotations

import time

import pytest
from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilityRecord, NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import get_nodes_for

from tune.cluster.fallback import score

TYPES = {
    name: {"resources": {"CPU": 8, "GPU": 1}, "node_config": {}, "max_workers": 4, "min_workers": 0}
    for name in ("gpu", "gpu-spot", "gpu-b-spot")
}


def asked_for(*unavailable: str, demand: dict[str, float] | None = None) -> list[str]:
    """The types that are started for one trial, where some could not be had."""
    records = {
        name: NodeAvailabilityRecord(
            node_type=name, is_available=False, last_checked_timestamp=time.time(), unavailable_node_information=None
        )
        for name in unavailable
    }
    summary = NodeAvailabilitySummary(node_availabilities=records)

    def scorer(node_resources: object, resources: object, node_type: str) -> object:
        return score(node_resources, resources, node_type, node_availability_summary=summary)

    wanted = demand or {"CPU": 4, "GPU": 1}
    started, _ = get_nodes_for(TYPES, {}, "head", 8, [wanted], utilization_scorer=scorer)
    return list(started)


def test_a_spot_node_is_asked_for_before_an_on_demand_one() -> None:
    assert asked_for() in (["gpu-spot"], ["gpu-b-spot"])


def test_a_spot_node_that_cannot_be_had_gives_way_to_another_and_then_to_on_demand() -> None:
    assert asked_for("gpu-spot") == ["gpu-b-spot"]
    assert asked_for("gpu-spot", "gpu-b-spot") == ["gpu"]


def test_where_none_can_be_had_spot_is_asked_for_again() -> None:
    assert asked_for("gpu-spot", "gpu-b-spot", "gpu") in (["gpu-spot"], ["gpu-b-spot"])


@pytest.mark.parametrize("demand", [{"CPU": 9.0}, {"GPU": 2.0}, {"TPU": 1.0}])
def test_a_node_that_cannot_run_the_trial_is_never_asked_for(demand: dict[str, float]) -> None:
    assert asked_for(demand=demand) == []

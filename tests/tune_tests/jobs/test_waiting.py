"""What a training waits for, in words: with texts that Ray's own autoscalers write, and once from a real Ray."""

from __future__ import annotations

import json
import re
import time

import pytest
import ray
from ray._private import ray_constants
from ray.autoscaler._private.commands import debug_status
from ray.autoscaler.v2 import utils as second
from ray.autoscaler.v2.schema import ClusterStatus, LaunchRequest, ResourceDemandSummary, Stats
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

from tune.jobs import waiting as module
from tune.jobs.waiting import Wait, failure_in, launch_failure
from tune.spaces.settings import Resources


def status(*failures: tuple[str, str, str]) -> bytes:
    """What Ray's first autoscaler writes into the head's store, with failed launches: (node type, kind, reason)."""
    records = {
        node: {
            "node_type": node, "is_available": False, "last_checked_timestamp": 1_700_000_000 + number,
            "unavailable_node_information": {"category": category, "description": description},
        }
        for number, (node, category, description) in enumerate(failures)
    }  # fmt: skip
    report = {
        "active_nodes": {"head": 1}, "idle_nodes": {}, "pending_nodes": [], "pending_launches": {},
        "failed_nodes": [["10.0.0.7", "gpu_worker"]], "node_availability_summary": {"node_availabilities": records},
        "pending_resources": {}, "node_type_mapping": {}, "node_activities": {}, "legacy": False,
    }  # fmt: skip
    load = {
        "usage": {"CPU": [2.0, 2.0]}, "resource_demand": [], "pg_demand": [], "request_demand": [], "node_types": [],
        "usage_by_node": None,
    }  # fmt: skip
    return json.dumps({"autoscaler_report": report, "load_metrics_report": load, "time": 1_700_000_100.0}).encode()


CAPACITY = ("gpu_worker", "InsufficientInstanceCapacity", "AWS Error: We currently do not have enough capacity.")


def test_the_newest_failed_launch_of_the_first_autoscaler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second, "is_autoscaler_v2", lambda: False)
    text = debug_status(status(("cpu_worker", "AuthFailure", "no"), CAPACITY), b"", verbose=True)
    assert "Recent failures:" in text
    assert failure_in(text) == (
        "gpu_worker: InsufficientInstanceCapacity: AWS Error: We currently do not have enough capacity."
    )
    assert failure_in(debug_status(status(), b"", verbose=True)) is None
    assert failure_in(debug_status(b"", b"", verbose=True)) is None


def test_the_newest_failed_launch_of_the_second_autoscaler_is_named() -> None:
    why = "An error occurred (InsufficientInstanceCapacity) when calling the RunInstances operation"
    failed = [
        LaunchRequest(
            instance_type_name="g5.xlarge", ray_node_type_name="gpu_worker", count=1, state=LaunchRequest.Status.FAILED,
            request_ts_s=1_700_000_000 + number, failed_ts_s=1_700_000_000 + number, details=details,
        )
        for number, details in enumerate(["earlier", why])
    ]  # fmt: skip
    found = ClusterStatus(failed_launches=failed, resource_demands=ResourceDemandSummary(), stats=Stats(request_ts_s=1))
    assert failure_in(second.ClusterStatusFormatter.format(found, verbose=True)) == f"gpu_worker: LaunchFailed: {why}"


@pytest.mark.slow
def test_a_wait_is_told_at_first_when_its_reason_changes_and_now_and_then(
    ray_running: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUIET_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(module, name, 0.0)
    assert launch_failure() is None
    assert Wait(2, Resources(), quiet=60).news() is None
    wait, cpus = Wait(2, Resources(workers=2)), ray.cluster_resources()["CPU"]
    first = wait.news() or ""
    assert re.fullmatch(rf"waits for 2 workers since \d\d:\d\d \(the cluster has [\d.]+ of {cpus:g} CPUs free\)", first)
    assert wait.news() is None
    monkeypatch.setattr(second, "is_autoscaler_v2", lambda: False)
    _internal_kv_put(ray_constants.DEBUG_AUTOSCALING_STATUS, status(CAPACITY), overwrite=True)
    try:
        assert "CPUs free; gpu_worker: InsufficientInstanceCapacity: AWS Error" in (wait.news() or "")
        assert wait.news() is None
        wait._again = time.monotonic()
        assert "InsufficientInstanceCapacity" in (wait.news() or "")
        alone = Wait(1, Resources(gpus=0.5))
        assert "waits for 1 worker since" in (told := alone.news() or "") and "0 of 0 GPUs free" in told
    finally:
        _internal_kv_del(ray_constants.DEBUG_AUTOSCALING_STATUS)

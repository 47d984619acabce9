"""The resources that a training by several workers holds, as placement groups of Ray.

Ray releases a placement group only when both its creator and the whole run have ended. So a process that is killed
leaves its groups, and every later training waits for them. Each group has a name here, which tells its run, its
training and its job. Whoever is left finds it by that name and removes it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from pathlib import Path

import ray
import ray.util
from ray.util.placement_group import PlacementGroup

REMOVED = "REMOVED"
"""Ray's state of a group that is gone; its table keeps such groups for a while"""


def training_of(directory: Path) -> str:
    """Return how a training is called in names: the end of its directory's path, "voc/trials/003"."""
    return "/".join(directory.resolve().parts[-3:])


def name_of(training: str, job: int) -> str:
    """Return a new name. Ray refuses a name that is in use."""
    return f"{_of_training(training)}{job}/{uuid.uuid4().hex[:8]}"


def reserve(bundles: Sequence[dict[str, float]], training: str, job: int) -> PlacementGroup:
    """Ask for resources: each bundle on one node, all bundles together or none. Returns at once."""
    return ray.util.placement_group(list(bundles), name=name_of(training, job))


def release(training: str, job: int | None = None) -> int:
    """Remove the groups of a training, or of one of its jobs; return their number. Ends the workers on them."""
    own = _of_training(training) + (f"{job}/" if job is not None else "")
    return _remove([id for id, name in _held() if name.startswith(own)])


def release_others(trainings: Collection[str]) -> int:
    """Remove the groups of this run that belong to none of these trainings; return their number."""
    own = tuple(_of_training(training) for training in trainings)
    return _remove([id for id, name in _held() if name.startswith(_of_run()) and not name.startswith(own)])


def _of_run() -> str:
    return f"nmt/{ray.get_runtime_context().get_job_id()}/"  # of the driver, in each of its processes


def _of_training(training: str) -> str:
    return f"{_of_run()}{training}#"


def _held() -> list[tuple[str, str]]:
    """Return the id and the name of every placement group of the cluster."""
    table = ray.util.placement_group_table()
    return [(id, group["name"]) for id, group in table.items() if group["state"] != REMOVED]


def _remove(ids: Sequence[str]) -> int:
    for id in ids:
        ray.util.remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(id))))
    return len(ids)

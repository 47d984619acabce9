"""The disk space of a search: what its trials will take, where, and whether it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nmt.data.store.features import open_features
from nmt.data.store.ready import ReadyData
from nmt.errors import UserError
from nmt.training.files import BEST
from nmt.training.sizes import Sizes, in_bytes, room, training_sizes
from tune.driver.room import workers_on
from tune.results.layout import DEFINITION, ENDED, TRIALS
from tune.spaces.space import Space
from tune.study.study import ladder

NODE_SECONDS = 60.0
"""time that a node has to answer"""


@dataclass(frozen=True, kw_only=True)
class DiskUse:
    """What the trials of a search take, at the sizes of the default configuration, bytes."""

    sizes: Sizes
    """of one trial"""
    ended: int
    """what an ended trial keeps"""
    most: int | None
    """most of the whole search at once, where its results live; None without a number of trials"""
    at_end: int | None
    """what the finished search keeps there; None without a number of trials"""
    running: int
    """the trials that run at once"""
    there: int | None
    """room where its results live; None for an object store, which has no limit"""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for --json."""
        return {"trial": self.sizes.running, "ended_trial": self.ended, "most": self.most, "end": self.at_end}

    def __str__(self) -> str:
        trial = (
            f"a trial takes up to {in_bytes(self.sizes.running)} while it trains, and {in_bytes(self.ended)} once ended"
        )
        if self.most is not None and self.at_end is not None:
            all_of_it = f"all trials at most {in_bytes(self.most)}, at the end {in_bytes(self.at_end)}"
            return f"{trial}; {all_of_it}{self._room()}"
        if self.there is None:
            return trial
        count = max(0, self.there - self.running) // max(self.ended, 1)
        return f"{trial}{self._room()}, enough for about {count:,} ended trials"

    def _room(self) -> str:
        return "" if self.there is None else f"; there is room for {in_bytes(self.there)}"


def disk_use(space: Space, *, directory: Path, data: ReadyData, storage: str | None, at_once: int) -> DiskUse:
    """Compute what a search will take on the disks, and check that it is there.

    Args:
        directory: of the search, on every node.
        storage: address of the search; None if `directory` is its only place.
        at_once: trials that run at once.

    Raises:
        UserError: a new search does not fit where its results live, or the trials that run at once on a node.
    """
    base = space.base
    features = open_features(data.folder, base) if base.data.mode == "features" else None
    sizes = training_sizes(base, features=features)
    home = Path(storage or directory) if "://" not in (storage or "") else None
    ended = [path.parent for path in (directory / TRIALS).glob(f"*/{ENDED}")]
    there = None if home is None else room(home.absolute()) - (0 if storage else _kept(ended))
    use = _use(space, sizes, at_once, there, ended=len(ended))
    # What the rest of a search that has begun needs depends on how its trials have ended.
    begun = (directory / DEFINITION).is_file()
    needed = use.running if use.most is None or begun else use.most
    if use.there is not None and use.there < needed:
        raise UserError(_refusal(space, use, needed, at_once, place=storage or str(directory)))
    if storage is not None:
        _check_nodes(space, directory.absolute(), sizes, at_once)
    return use


def _kept(ended: Sequence[Path]) -> int:
    """Return the bytes of the weights of ended trials, which no other file will replace."""
    weights = [folder / BEST for folder in ended]
    return sum(path.stat().st_size for path in weights if path.is_file())


def _use(space: Space, sizes: Sizes, at_once: int, there: int | None, *, ended: int) -> DiskUse:
    running = min(at_once, max(space.search.trials - ended, 1)) if space.search.trials else at_once
    kept = sizes.best if space.search.keep == "best" else sizes.paused
    trials = space.search.trials
    return DiskUse(
        sizes=sizes,
        ended=kept,
        most=most_bytes(space, sizes, at_once, trials) if trials else None,
        at_end=trials * kept if trials else None,
        running=running * sizes.running,
        there=there,
    )


def most_bytes(space: Space, sizes: Sizes, at_once: int, trials: int) -> int:
    """Return the most that so many trials take at once.

    Halving by promotion pauses trials, which keep their checkpoints until the search is over: they may be promoted.
    """
    rungs = ladder(space).rungs
    running = min(at_once, trials)
    ended = min(trials - running, 1 + trials // space.search.reduction_factor ** (len(rungs) - 1))
    if len(rungs) == 1:
        ended = trials - running
    kept = sizes.best if space.search.keep == "best" else sizes.paused
    return running * sizes.running + ended * kept + (trials - running - ended) * sizes.paused


def _refusal(space: Space, use: DiskUse, needed: int, at_once: int, *, place: str) -> str:
    assert use.there is not None, "what has no limit is not refused"
    count = space.search.trials
    whole = needed == use.most
    running = use.running // use.sizes.running
    at_once_need = f"the {running} trials that run at once need" if running > 1 else "the trial that runs needs"
    what = f"the {count} trials of {space.name} need" if whole else at_once_need
    ways = ["free space", "write elsewhere with --results" if "://" not in place else "choose another --storage"]
    if space.search.keep == "all" and whole:
        ways.insert(0, '[search] keep = "best"')
    fewer = next((n for n in range(count - 1, 0, -1) if most_bytes(space, use.sizes, at_once, n) <= use.there), 0)
    if whole and fewer:
        ways.append(f"try at most --trials {fewer}")
    return (
        f"{place}: {what} up to {in_bytes(needed)}, and its disk has room for {in_bytes(use.there)}; "
        f"{', '.join(ways[:-1])} or {ways[-1]}"
    )


def _check_nodes(space: Space, directory: Path, sizes: Sizes, at_once: int) -> None:
    """Raise UserError if a node has no room for the trials that will run on it; their results go to the storage."""
    for node, there in _rooms(directory):
        # A checkpoint stays on the disk while it is uploaded, also when the training has written newer ones.
        trials = min(at_once * space.resources.workers, workers_on(space.resources, node["Resources"]))
        needed = trials * (sizes.running + sizes.checkpoint)
        if there < needed:
            raise UserError(
                f"{directory}: the {trials} trials that run at once on node {node['NodeManagerAddress']} need "
                f"{in_bytes(needed)}, and its disk has room for {in_bytes(there)}; free space there, or write to "
                "another disk with --results"
            )


def _rooms(directory: Path) -> list[tuple[dict[str, Any], int]]:
    """Ask every live node how much room it has."""
    task: Any = ray.remote(num_cpus=0)(room)
    here = ray.get_runtime_context().get_node_id()
    rooms, asked = [], {}
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] == here:
            rooms.append((node, room(directory)))
        elif node["Alive"]:
            on_it = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[task.options(scheduling_strategy=on_it).remote(directory)] = node
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS) if asked else ([], [])
    for answer in answered:
        try:
            rooms.append((asked[answer], ray.get(answer)))
        except ray.exceptions.RayError:  # a node that has died meanwhile takes no trial
            continue
    return rooms

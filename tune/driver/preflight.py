"""Checks before a search starts, on every node. `--dry-run` prints them as a preview and changes nothing.

A mistake is reported here in one line, not by the first trial on the last node after an hour.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nmt.config import Config
from nmt.data.store.ready import ReadyData, ready_data
from nmt.errors import UserError
from nmt.io.location import Location
from nmt.io.table import aligned
from tune.driver.disk import DiskUse, disk_use
from tune.driver.estimate import Estimate, estimate
from tune.driver.room import concurrency, node_resources
from tune.spaces.packs import pack_size
from tune.spaces.space import Space
from tune.study import budget
from tune.study.study import ladder

NODE_SECONDS = 300.0
"""time that a node has to answer: it may be copying the data set"""
TOKENS = ".preflight"
"""folder of the tokens, below the search's"""
OLD_SECONDS = 4 * NODE_SECONDS
"""age of a token that no check under way can have written"""
PACKAGES = ("torch", "ray", "optuna", "pyarrow")
"""packages that must have the same version on all nodes"""
SOURCES = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class SearchPreview:
    """The size of a search that is about to run, and its nodes."""

    trials: int
    """0 if another limit ends the search"""
    at_once: int
    epochs: int
    """most epochs of a trial"""
    time: Estimate
    nodes: tuple[str, ...]
    """addresses of the live nodes"""
    versions: Mapping[str, str]
    """the same on all nodes"""
    data_set: str
    disk: DiskUse
    memory: str | None = None
    """whether a step of the default configuration fits the GPU; None if that is not known"""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for --json."""
        return {
            "trials": self.trials,
            "at_once": self.at_once,
            "epochs": self.epochs,
            "nodes": list(self.nodes),
            "versions": dict(self.versions),
            **self.time.to_dict(),
            "bytes": self.disk.to_dict(),
            "memory": self.memory,
        }


def preflight(space: Space, *, directory: Path, data: ReadyData, storage: str | None) -> SearchPreview:
    """Check everything a search needs, in a running Ray. Files written for a check are removed again.

    Args:
        directory: of the search, on every node.
        storage: address of the search; None if `directory` is its only place.

    Raises:
        UserError: no data set or features, not enough resources for one trial, a storage that is not writable or
            not the same from all nodes, other versions on a node, or a disk without room for the trials.
    """
    configs = space.stored()
    at_once = concurrency(space.resources, node_resources())
    here = check_nodes(configs, directory=directory, data=data, storage=storage)
    return SearchPreview(
        trials=space.search.trials,
        at_once=at_once,
        epochs=space.base.train.epochs,
        time=estimate(space, data=data, results=directory.parent, at_once=at_once),
        nodes=tuple(sorted(node["NodeManagerAddress"] for node in _alive())),
        versions=here.versions,
        data_set=here.data_set,
        disk=disk_use(space, directory=directory, data=data, storage=storage, at_once=at_once),
    )


def check_nodes(configs: Sequence[Config], *, directory: Path, data: ReadyData, storage: str | None) -> Answer:
    """Compare what every node sees with what the driver sees, and return that. Raises UserError if they differ."""
    with written_token(storage or str(directory.resolve())) as token:
        here = Answer("the driver", versions(), data.identity, _sees(token), data.weights)
        others = _ask_nodes(configs, data.source, token)
    for answer in others:
        _compare(here, answer, data=data.given, directory=directory, storage=storage)
    return here


@dataclass(frozen=True)
class Token:
    """A file that the driver writes where the search will live.

    A node that cannot read it does not share the folder, although a folder of that name may exist there.
    """

    address: str
    name: str


@dataclass(frozen=True)
class Answer:
    """The versions and files that a node sees."""

    node: str
    versions: dict[str, str]
    data_set: str
    """identity of the data set (nmt.data.store.ready)"""
    sees_token: bool
    weights: Mapping[str, str]
    """those of the backbones (nmt.data.store.ready)"""


@contextlib.contextmanager
def written_token(address: str) -> Iterator[Token]:
    """Write a token at the address. Remove it, those that killed checks have left, and the folders made for them."""
    place = Location(address, attempts=2)
    token = Token(address, f"{TOKENS}/{time.time():.0f}-{uuid.uuid4().hex[:12]}")
    local = [] if "://" in address else [Path(address), *Path(address).parents]
    made = [folder for folder in local if not folder.exists() or set(os.listdir(folder)) == {TOKENS}]
    try:
        with tempfile.NamedTemporaryFile() as empty:
            place.upload(Path(empty.name), token.name)
        yield token
    finally:
        with contextlib.suppress(UserError):  # not there, if it could not be written
            place.delete(token.name)
            _remove_old_tokens(place)
        for folder in [*(local[:1] and [local[0] / TOKENS]), *made]:
            with contextlib.suppress(OSError):  # it has other files by now
                folder.rmdir()


def _remove_old_tokens(place: Location) -> None:
    """Remove the tokens of checks that were killed. Younger ones may be those of checks that are under way."""
    for name in place.names(TOKENS):
        written = name.rpartition("/")[2].partition("-")[0]
        if not written.isdecimal() or time.time() - int(written) > OLD_SECONDS:
            place.delete(name)


def look(configs: Sequence[Config], data: str, token: Token, node: str) -> Answer:
    """Check the data set on a node, and return what the node sees. Raises UserError that names the node."""
    try:
        ready = ready_data(data, configs)
        return Answer(node, versions(), ready.identity, _sees(token), ready.weights)
    except UserError as error:
        raise UserError(f"{error} (seen from node {node})") from None


def _sees(token: Token) -> bool:
    return Location(token.address, attempts=2).read(token.name, lambda content: True) is not None


def versions() -> dict[str, str]:
    """Return the versions that must be the same on all nodes.

    The version of this project is a hash of its sources, so that uncommitted changes count too.
    """
    sources = sorted(path for package in ("nmt", "tune") for path in (SOURCES / package).rglob("*.py"))
    content = b"".join(str(path.relative_to(SOURCES)).encode() + path.read_bytes() for path in sources)
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | packages | {"nmt": hashlib.sha256(content).hexdigest()[:12]}


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _ask_nodes(configs: Sequence[Config], data: str, token: Token) -> list[Answer]:
    """Return the answer of every live node; none for a single node, where the driver has looked already."""
    nodes = _alive()
    if len(nodes) == 1:
        return []
    task: Any = ray.remote(num_cpus=0)(look)
    asked = {}
    for node in nodes:
        on_it = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        address = node["NodeManagerAddress"]
        asked[task.options(scheduling_strategy=on_it).remote(configs, data, token, address)] = address
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS)
    if silent:
        raise UserError(
            f"node {asked[silent[0]]} has not answered in {NODE_SECONDS:.0f} s; is it up, and is {data} there?"
        )
    answers = []
    for answer in answered:
        with contextlib.suppress(ray.exceptions.TaskUnschedulableError):  # a node that has died takes no trial
            try:
                answers.append(ray.get(answer))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise UserError(str(error.cause)) from None
                raise
    return answers


def _compare(here: Answer, other: Answer, *, data: str, directory: Path, storage: str | None) -> None:
    """Raise UserError if a node sees something else than the driver."""
    for name, version in here.versions.items():
        if other.versions[name] != version:
            raise UserError(
                f"node {other.node} has {name} {other.versions[name]}, and the driver {version}; install the same "
                f"on all nodes (make setup, from the same commit)"
            )
    if other.data_set != here.data_set:
        raise UserError(f"{data}: another data set on node {other.node}; give --data an address that all nodes read")
    for name, content in here.weights.items():
        if other.weights[name] != content:
            raise UserError(
                f"{name}: other weights on node {other.node} ({other.weights[name]}), and the driver has {content}; "
                f"put the same file on all nodes"
            )
    if not other.sees_token:
        place = storage or str(directory)
        remedy = "give --storage an address that all nodes reach, such as s3://bucket/results, or a folder on NFS"
        raise UserError(f"{place}: not the same place from node {other.node}; {remedy}")


def render(plan: SearchPreview, space: Space, *, directory: Path, data: str, storage: str | None) -> str:
    """Return the preview as text."""
    resources, count = space.resources, len(plan.nodes)
    worker = f"{resources.cpus} CPUs, {resources.gpus:g} GPUs"
    number = resources.workers_text.replace(":", " to ")
    each = worker if resources.workers == 1 else f"{number} workers of {worker}"
    size = pack_size(space)
    packs = f"; up to {size} in one process" if size > 1 else ""
    rows = [
        ("trials", f"{plan.at_once} at once; 000 is the default configuration"),
        ("a trial", f"{each}; at most {plan.epochs} epochs{packs}"),
        ("budget", f"{budget.plan(space.search, ladder(space))} ({space.search.scheduler})"),
        ("time", str(plan.time)),
        *([("shorter", plan.time.shorter)] if plan.time.shorter else []),
        ("data", f"{data} ({plan.data_set}), the same on {_nodes(count)}"),
        ("results", f"{storage or directory}, writable; seen from {_nodes(count)}"),
        ("disk", str(plan.disk)),
        *([("memory", plan.memory)] if plan.memory is not None else []),
        ("versions", ", ".join(f"{name} {version}" for name, version in plan.versions.items())),
        ("nodes", ", ".join(plan.nodes)),
    ]
    return f"Preview of the search {space.name}:\n{aligned([[f'  {name}', text] for name, text in rows], left=2)}"


def epoch_line(preview: SearchPreview, space: Space) -> str:
    """Return the size of an epoch, the time that the whole search takes where it is known, and the disk space."""
    steps, pairs = space.base.train.steps_per_epoch, space.base.data.pairs_per_step
    lines = [f"an epoch: {steps} steps of {pairs} pairs; time of the search: {preview.time}"]
    lines += [f"shorter: {preview.time.shorter}"] if preview.time.shorter else []
    return "\n".join([*lines, f"disk: {preview.disk}"])


def _nodes(count: int) -> str:
    return "this node" if count == 1 else f"all {count} nodes"

"""A node that is about to be taken away: its trainings save and end, and Ray places nothing new on it.

Ray's word for such a node is *draining*. Whoever drains it, each process that trains there sees it here. On Kubernetes
that is `ray start --block`, when its pod is to end. On a cloud's spot machine it is the first training that reads the
notice (nmt.training.spot). Ray Train has a watcher of its own, an actor per group of workers. It is switched off: it
adds seconds to each trial, and helps none of one worker.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import Any

import ray
import ray._private.state
import ray._private.worker
import ray.exceptions

from nmt import distributed
from nmt.errors import TemporaryError
from nmt.training import spot

HEAD = "node:__internal_head__"
"""resource of the head node"""

log = logging.getLogger(__name__)


class NodeTakenError(TemporaryError):
    """Ends a training whose node is about to be taken away, after its checkpoint: no fault of the training."""


class NodeWatch:
    """Watches one node in a thread that ends with the process.

    The head is not watched. Without it the whole cluster ends, and the process of the search listens for that notice.
    """

    def __init__(self, node: str) -> None:
        """Begin to watch the node of this process, whose id in Ray is `node`."""
        self._node = node
        self.reason: str | None = None
        """why the node's trainings must end; None while they need not"""
        entry = next((n for n in ray.nodes() if n["NodeID"] == node), None)
        if entry is None or HEAD in entry["Resources"]:
            return
        self._address = entry["NodeManagerAddress"]
        threading.Thread(target=self._watch, daemon=True, name="node watch").start()

    @property
    def taken(self) -> bool:
        """True once the trainings of the node must end."""
        return self.reason is not None

    def check(self) -> None:
        """Raise NodeTakenError once the trainings of the node must end."""
        if self.reason is not None:
            raise NodeTakenError(self.reason)

    def leave_together(self) -> None:
        """`check` for a data-parallel worker whose group has just saved. Every worker calls it.

        A worker that raises ends the others, so each waits here until rank 0 has uploaded the checkpoint.
        """
        distributed.barrier()
        self.check()

    def _watch(self) -> None:
        cloud = spot.service()
        listener = spot.Listener(cloud) if cloud is not None else None
        while self.reason is None and ray.is_initialized():
            notice = listener.ask() if listener is not None else None
            if notice is not None and cloud is not None:
                self._drain(notice, cloud.seconds)
            else:
                notice = self._drained()
            if notice is not None:
                self.reason = f"its node {self._address} is taken away ({notice})"
                log.warning("%s", self.reason)
                return
            time.sleep(spot.POLL_SECONDS)

    def _drained(self) -> str | None:
        """Return that Ray drains the node, if it does."""
        try:
            draining: dict[str, int] = ray._private.state.state.get_draining_nodes()
        except (ray.exceptions.RayError, OSError, RuntimeError) as error:  # the head is away for a moment, or for ever
            log.info("the nodes that Ray drains are not known (%s)", error)
            return None
        return "Ray drains it" if self._node in draining else None

    def _drain(self, notice: str, seconds: float) -> None:
        """Tell Ray that the node ends in so many seconds. Without an answer its trainings end all the same."""
        from ray.core.generated import autoscaler_pb2

        worker: Any = ray._private.worker.global_worker
        names: Any = autoscaler_pb2
        reason = names.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + seconds) * 1000)
        try:
            accepted, message = worker.gcs_client.drain_node(self._node, reason, notice, deadline)
        except (ray.exceptions.RayError, OSError, RuntimeError) as error:
            accepted, message = False, str(error)
        if not accepted:
            log.warning("Ray does not drain the node (%s)", message)


def node_watch() -> NodeWatch:
    """Return the watch of this process over its node."""
    return _watch_of(ray.get_runtime_context().get_node_id())


_watch_of = functools.cache(NodeWatch)

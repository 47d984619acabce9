"""Wait for the nodes of a cluster: `python -m tune.cluster.nodes N` returns once the cluster at RAY_ADDRESS has N.

`ray start` returns before the node has joined, so a script that starts nodes must wait for them.
"""

from __future__ import annotations

import sys
import time

LIMIT_SECONDS = 900.0


def wait_for_nodes(count: int, limit: float = LIMIT_SECONDS) -> list[str]:
    """Wait until a cluster has enough live nodes.

    Args:
        count: number of nodes to wait for.
        limit: longest wait, seconds.

    Returns:
        Addresses of the live nodes.

    Raises:
        TimeoutError: fewer nodes after `limit` seconds.
    """
    import ray

    started = not ray.is_initialized()
    ray.init(address="auto", ignore_reinit_error=True, log_to_driver=False)
    try:
        deadline = time.monotonic() + limit
        while True:
            alive = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            if len(alive) >= count:
                return alive
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(alive)} of {count} nodes after {limit:g} s: {', '.join(alive)}")
            time.sleep(1.0)
    finally:
        if started:
            ray.shutdown()


if __name__ == "__main__":
    print("nodes:", *wait_for_nodes(int(sys.argv[1])), flush=True)

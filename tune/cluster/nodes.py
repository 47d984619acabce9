"""`python -m tune.cluster.nodes N`: waits until the cluster at RAY_ADDRESS has N nodes; a start alone promises none."""

from __future__ import annotations

import sys
import time

LIMIT_SECONDS = 900.0


def wait_for_nodes(count: int, limit: float = LIMIT_SECONDS) -> list[str]:
    """The addresses of the live nodes, once they are `count`. Raises TimeoutError."""
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

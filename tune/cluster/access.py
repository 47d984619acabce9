"""Who can reach Ray: the token that all its processes require, readable to its owner alone, and the ports it opens."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

MODE = {"RAY_AUTH_MODE": "token"}
"""makes Ray refuse who does not know the token"""
NO_METRICS = {
    "RAY_enable_metrics_collection": "0",
    # The autoscaler and the dashboard have no switch for their ports. Neither can open this one, and both go on.
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""closes the ports of Ray's metrics, which nothing here reads; cluster/node.sh has the same for nodes"""
GIVEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""variables in which a user gives Ray a token or its file; Ray reads ~/.ray/auth_token if none is set"""


def secure_local_ray() -> None:
    """Let the Ray that this process starts next require a token and open no port for metrics.

    The token is the user's own, in ~/.ray/auth_token, made if there is none. If it cannot be kept from others there, as
    in a home that cannot be written, a token is made that exists in the environment of this process and its children
    alone.
    """
    import ray._raylet as compiled  # its stubs name only a part of it

    os.environ.update(MODE | NO_METRICS)
    if not any(os.environ.get(name) for name in GIVEN) and not private_token(make=True):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # Ray read the environment when it was imported.
    compiled.Config.initialize("")  # type: ignore[attr-defined]
    compiled.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


def private_token(*, make: bool) -> bool:
    """Keep ~/.ray/auth_token readable to this user alone: Ray itself writes it readable to all.

    Args:
        make: make a token if there is none.

    Returns:
        Whether there is a token which no other user can read or replace by writing the file.
    """
    try:
        path = Path.home() / ".ray" / "auth_token"
        if make and not (path.is_file() and path.read_text().strip()):
            _make_token(path)
        if path.stat().st_uid != os.getuid():  # its owner knows the token
            return False
        if _open_to_others(path):
            path.chmod(0o600)
        return not _open_to_others(path) and bool(path.read_text().strip())
    except (OSError, RuntimeError, UnicodeDecodeError):  # RuntimeError: no home
        return False


def _open_to_others(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _make_token(path: Path) -> None:
    """Write a new token. Of two processes that do so at once, both use the token of the first. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".auth_token.")  # readable to this user alone
    try:
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        if path.exists():  # empty
            os.replace(name, path)
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)

"""Offline check of a file in cluster/: by the tools' own schemas, and by rules where these check nothing.

Ray's validator accepts anything as `node_config`, a `min_workers` above `max_workers`, and clusters that anyone may
use. `_check_workers`, `_check_security` and tune.cluster.machines check these.
"""

from __future__ import annotations

import copy
import io
import ipaddress
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from nmt.errors import UserError, one_line
from tune.cluster import kubernetes, machines
from tune.cluster.access import private_token

PLACEHOLDER = "CHANGE-ME"
"""text of the values that the user has to fill in"""
TOKEN = "~/.ray/auth_token"
"""the cluster's secret: Ray refuses calls without it"""
MAKE_TOKEN = "ray get-auth-token --generate"


def check_file(path: Path) -> None:
    """Check a cluster file: a `ray up` file, Kubernetes objects, or a Slurm script (.sbatch).

    Raises:
        UserError: the first fault: what is wrong, where, and what would be right.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if path.suffix == ".sbatch":
        _check_script(path, text)
        return
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {one_line(error)}") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise UserError(f"{path}: not a cluster file: it holds no mapping")
    _refuse_placeholders(path, documents)
    try:
        if all("apiVersion" in document for document in documents):
            kubernetes.check(documents)
        elif len(documents) == 1 and "provider" in documents[0]:
            check_ray(documents[0])
        else:
            raise UserError("neither a Ray cluster (no `provider`) nor Kubernetes objects (no `apiVersion`)")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except ModuleNotFoundError as error:  # a cloud's client, or the schemas: packages that only developers have
        raise UserError(
            f"{path}: cannot be checked without the package {error.name}; add it with: make setup EXTRAS=dev"
        ) from error


def _check_script(path: Path, text: str) -> None:
    """Check a Slurm script: no placeholders, and bash can parse it. Raises UserError."""
    if PLACEHOLDER in text:
        lines = (line for line in text.splitlines() if PLACEHOLDER in line)
        raise UserError(
            f"{path}: change {next(lines).split('#SBATCH')[-1].strip()!r} to what is right for your cluster"
        )
    parsed = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    if parsed.returncode:
        raise UserError(f"{path}: bash does not parse it: {one_line(parsed.stderr)}")


def _refuse_placeholders(path: Path, documents: list[dict[str, Any]]) -> None:
    """Raise UserError with all values that the user has to fill in; a value used twice by a YAML anchor counts once."""
    found: dict[int, str] = {}
    for document in documents:
        for place, value in _strings(document):
            if PLACEHOLDER in value:
                found.setdefault(id(value), f"{place} (now {value})")  # all uses of an anchor are the same object
    if found:
        places = ", ".join(found.values())
        raise UserError(f"{path}: {len(found)} values to change before use: {places}; see the comments beside them")


def _strings(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string with its place, such as provider.region, in the order of the file."""
    if isinstance(node, str):
        yield place, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _strings(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _strings(value, f"{place}[{number}]")


def check_ray(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a `ray up` file.

    Args:
        config: its content.

    Returns:
        The content with the provider's defaults filled in.

    Raises:
        UserError: the first fault.
    """
    filled = _with_ray_defaults(config)
    provider = filled["provider"]["type"]
    _check_workers(filled)
    if provider == "aws":
        machines.check_aws(filled)
    elif provider == "gcp":
        machines.check_gcp(filled)
    elif provider == "local":
        _check_addresses(filled["provider"])
    _check_orphans(filled, provider)
    _check_security(filled)
    _check_mounts(filled["file_mounts"])
    return filled


def _with_ray_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Validate a file as `ray up` does and fill in its defaults. Raises UserError."""
    import click
    import jsonschema
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    if config["provider"].get("type") not in ("aws", "gcp", "local"):
        raise UserError(f"provider.type: {config['provider'].get('type')!r} is none of aws, gcp, local")
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    said = io.StringIO()
    try:
        jsonschema.validate(config, schema)
        with redirect_stdout(said), redirect_stderr(said):  # Ray prints a note for every file_mount that is a file
            filled: dict[str, Any] = prepare_config(copy.deepcopy(dict(config)))
            validate_config(filled)
    except jsonschema.ValidationError as error:
        raise UserError(f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}") from error
    except (ValueError, AttributeError, KeyError, TypeError, RuntimeError, click.ClickException) as error:
        raise UserError(f"Ray refuses it: {one_line(str(error) or said.getvalue() or error)}") from error
    return filled


def _check_workers(config: Mapping[str, Any]) -> None:
    """Check the numbers of nodes, which Ray's schema does not. Raises UserError."""
    types = config["available_node_types"]
    for name, node in types.items():
        low, high = node["min_workers"], node["max_workers"]
        if not 0 <= low <= high:
            raise UserError(f"available_node_types.{name}: min_workers {low} is not between 0 and max_workers {high}")
    workers = [node for name, node in types.items() if node["max_workers"] > 0]
    if config["max_workers"] < 1 or not workers:
        raise UserError("max_workers: no node may ever be started; 1 or more are needed")
    if not config["idle_timeout_minutes"] > 0:
        raise UserError(
            f"idle_timeout_minutes: {config['idle_timeout_minutes']} ends every node at once; use 5 or more"
        )


def _check_addresses(provider: Mapping[str, Any]) -> None:
    """Check the addresses of a cluster of own hosts. Raises UserError."""
    addresses = [provider["head_ip"], *provider["worker_ips"]]
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise UserError(f"provider: {address!r} is no IP address, which Ray needs for own hosts") from None
    if len(set(addresses)) < len(addresses):
        raise UserError("provider: head_ip and worker_ips name a host twice; each is one node")


def _check_orphans(config: Mapping[str, Any], provider: str) -> None:
    """Check that a machine of a cloud ends without its head, and a user's own host never does. Raises UserError."""
    key = "worker_start_ray_commands"
    watches = any("cluster/orphan.sh" in command for command in config[key])
    if provider == "local":
        if watches:
            raise UserError(f"{key}: cluster/orphan.sh would shut down your own host when the head is gone; remove it")
        return
    if not watches:
        raise UserError(f"{key}: without cluster/orphan.sh the nodes of a dead head run, and cost, for ever")
    for name, node in config["available_node_types"].items():
        behaviour = node["node_config"].get("InstanceInitiatedShutdownBehavior")
        if provider == "aws" and behaviour != "terminate":
            raise UserError(
                f"available_node_types.{name}.node_config.InstanceInitiatedShutdownBehavior: {behaviour!r}; only with "
                "terminate does a node that shuts itself down stop to cost"
            )


def _check_security(config: Mapping[str, Any]) -> None:
    """Check that every node requires the token and that the dashboard is reached from the head alone.

    Without a token, Ray runs any code that anyone who reaches its ports sends. Raises UserError.
    """
    starts = [
        (key, command)
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
        if re.search(r"\bray start\b", command)
    ]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        if key not in dict(starts):
            raise UserError(f"{key}: no `ray start` in it")
    for key, command in starts:
        if not re.search(r"\bRAY_AUTH_MODE=token\b", command):
            raise UserError(f"{key}: without RAY_AUTH_MODE=token anyone who reaches the node may run code on it")
        host = re.search(r"--dashboard-host[= ]+(\S+)", command)
        if host and host[1] not in ("127.0.0.1", "localhost"):
            raise UserError(f"{key}: --dashboard-host={host[1]} shows the dashboard to others; use 127.0.0.1 and ssh")
    head = dict(starts)["head_start_ray_commands"]
    if "--autoscaling-config=~/ray_bootstrap_config.yaml" not in head:
        raise UserError(
            "head_start_ray_commands: `ray start` without --autoscaling-config=~/ray_bootstrap_config.yaml "
            "never starts a worker"
        )
    if not re.search(r"\bRAY_enable_autoscaler_v2=0\b", head):
        raise UserError(
            "head_start_ray_commands: RAY_enable_autoscaler_v2=0 is missing; the newer autoscaler starts no worker on "
            "own hosts, and never on-demand nodes when there is no spot one"
        )
    if TOKEN not in config["file_mounts"]:
        raise UserError(f"file_mounts: {TOKEN} is missing, the token that every node needs")
    if not any("chmod 600" in command and TOKEN in command for command in config["setup_commands"]):
        raise UserError(f"setup_commands: `chmod 600 {TOKEN}` is missing; Ray writes it readable for all users")


def _check_mounts(mounts: Mapping[str, str]) -> None:
    """Check that the files to copy to the nodes exist here, and the token is kept from others. Raises UserError."""
    for remote, local in mounts.items():
        if Path(local).expanduser().exists():
            if local == TOKEN and not private_token(make=False):
                raise UserError(f"{local}: no token that you alone can read; make one: rm {local}; {MAKE_TOKEN}")
            continue
        hint = f"make it with: {MAKE_TOKEN}" if remote == TOKEN else "run this and ray up in the checkout"
        raise UserError(f"file_mounts: {local} does not exist; {hint}")

"""Offline check of a cluster file's machines against the data of the cloud's own client library.

Ray passes a `node_config` to the cloud unchecked. A mistake in it would show minutes into `ray up`; one in a worker's
configuration, only when the first trial waits for a node.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nmt.errors import UserError, nearest, one_line

_G_SIZES = {
    "xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1, "24xlarge": 4, "48xlarge": 8,
}  # fmt: skip
AWS_GPUS: dict[str, dict[str, int]] = {
    "g4dn": {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1, "metal": 8},
    "g5": _G_SIZES,
    "g6": _G_SIZES,
    "g6e": _G_SIZES,
    "p3": {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8},
    "p3dn": {"24xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"4xlarge": 1, "48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
}
"""EC2 family -> size -> number of NVIDIA GPUs; the GPUs of other families are not checked"""

_GCP_GPUS = {"a2": r"-(\d+)g$", "a3": r"-(\d+)g$", "a4": r"-(\d+)g$"}
"""Google's family -> pattern of the number of GPUs in the name of a machine type"""
_G2_GPUS = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
"""cores of a g2-standard machine -> number of L4 GPUs"""


def check_aws(config: Mapping[str, Any]) -> None:
    """Check region, zones and node types of a `provider: aws`. Raises UserError."""
    provider = config["provider"]
    region = provider.get("region")
    regions = _ec2_regions()
    if region not in regions:
        raise UserError(f"provider.region: {region!r} is no region of EC2; {nearest(str(region), regions)}")
    for zone in str(provider.get("availability_zone", region + "a")).split(","):
        if not re.fullmatch(rf"{region}[a-z]", zone.strip()):
            raise UserError(f"provider.availability_zone: {zone.strip()!r} is no zone of {region}; like {region}a")
    if provider.get("cache_stopped_nodes", True):
        raise UserError(
            "provider.cache_stopped_nodes: true keeps the disks of ended nodes, which still cost; use false"
        )
    for name, node in config["available_node_types"].items():
        place = f"available_node_types.{name}"
        _check_run_instances(node["node_config"], f"{place}.node_config")
        family, _, size = node["node_config"]["InstanceType"].partition(".")
        _check_resources(node["resources"], _ec2_cpus(size), AWS_GPUS.get(family, {}).get(size), place)
        _check_aws_access(node["node_config"], f"{place}.node_config")


@functools.cache
def _ec2_regions() -> list[str]:
    from botocore.session import Session

    session = Session()
    partitions = session.get_available_partitions()
    return [region for partition in partitions for region in session.get_available_regions("ec2", partition)]


def _check_run_instances(node_config: Mapping[str, Any], place: str) -> None:
    """Check a node_config as a request to EC2's RunInstances. Raises UserError.

    Ray adds the number of machines to the request and replaces `SubnetIds` with one of them as `SubnetId`.
    """
    from botocore.validate import ParamValidator

    shape = _run_instances()
    request = {key: value for key, value in node_config.items() if key != "SubnetIds"}
    for key in ("ImageId", "InstanceType"):
        if key not in request:
            raise UserError(f"{place}.{key} is missing")
    report = ParamValidator().validate(request | {"MinCount": 1, "MaxCount": 1}, shape)
    if report.has_errors():
        raise UserError(f"{place}: {one_line(report.generate_report())}")
    for where, value, known in _outside_choices(request, shape, place):
        raise UserError(f"{where}: {value!r} is not known to EC2; {nearest(str(value), known)}")
    if not re.match(r"ami-[0-9a-f]{8,17}$|resolve:ssm:/", request["ImageId"]):
        raise UserError(f"{place}.ImageId: {request['ImageId']!r} is neither ami-... nor resolve:ssm:/...")


@functools.cache
def _run_instances() -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("ec2", "service-2")).operation_model("RunInstances").input_shape


def _outside_choices(value: Any, shape: Any, place: str) -> Iterator[tuple[str, Any, list[str]]]:
    """Yield (place, value, known values) of strings that EC2's model does not list; botocore does not check them."""
    if shape.type_name == "structure":
        for key, inner in value.items():
            yield from _outside_choices(inner, shape.members[key], f"{place}.{key}")
    elif shape.type_name == "list":
        for number, inner in enumerate(value):
            yield from _outside_choices(inner, shape.member, f"{place}[{number}]")
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield place, value, shape.enum


def _check_aws_access(node_config: Mapping[str, Any], place: str) -> None:
    """Check security group, instance profile and disk of a node: Ray's defaults are unfit. Raises UserError."""
    interfaces = node_config.get("NetworkInterfaces", [])
    if interfaces and (wrong := node_config.keys() & {"SecurityGroupIds", "SubnetId", "SubnetIds"}):
        raise UserError(f"{place}.{min(wrong)}: Ray takes it from NetworkInterfaces alone; move it there")
    if any(not interface.get("SubnetId") for interface in interfaces):
        raise UserError(f"{place}.NetworkInterfaces: SubnetId is missing; Ray chooses no subnet for them")
    if not all(n.get("Groups") for n in interfaces) or not (interfaces or node_config.get("SecurityGroupIds")):
        raise UserError(f"{place}.SecurityGroupIds is missing; Ray's own group opens ssh to the whole internet")
    if not node_config.get("IamInstanceProfile"):
        raise UserError(f"{place}.IamInstanceProfile is missing; a node needs it for the bucket, and the head for more")
    for disk in node_config.get("BlockDeviceMappings", []):
        if disk.get("Ebs", {}).get("VolumeSize", 0) < 60:
            raise UserError(f"{place}.BlockDeviceMappings: a disk under 60 GB cannot hold system, packages and data")


def _ec2_cpus(size: str) -> int | None:
    """Return the cores of an EC2 size, four per `xlarge`; None if the name does not give them."""
    found = re.fullmatch(r"(\d*)xlarge", size)
    return 4 * int(found[1] or 1) if found else {"large": 2, "medium": 1}.get(size)


def _check_resources(resources: Mapping[str, int], cpus: int | None, gpus: int | None, place: str) -> None:
    """Check the resources that a file gives a machine against those it has (None: unknown). Raises UserError."""
    if "CPU" not in resources:
        raise UserError(f"{place}.resources: CPU is missing; give the number of cores that trials may use")
    if cpus is not None and resources["CPU"] > cpus:
        raise UserError(f"{place}.resources.CPU: {resources['CPU']}, but the machine has {cpus}")
    if gpus is not None and resources.get("GPU", 0) != gpus:
        raise UserError(f"{place}.resources.GPU: {resources.get('GPU', 0)}, but the machine has {gpus}")


def check_gcp(config: Mapping[str, Any]) -> None:
    """Check project, region, zone and node types of a `provider: gcp`. Raises UserError."""
    provider = config["provider"]
    region = provider.get("region")
    patterns = {
        "project_id": (r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "a project's id has 6 to 30 small letters, digits and hyphens"),
        "region": (r"[a-z]+-[a-z]+\d+", "like us-central1"),
        "availability_zone": (rf"{region}-[a-z]", f"a zone of the region, like {region}-a"),
    }
    for key, (pattern, right) in patterns.items():
        if not re.fullmatch(pattern, str(provider.get(key))):
            raise UserError(f"provider.{key}: {provider.get(key)!r}; {right}")
    if provider.get("cache_stopped_nodes", True):
        raise UserError(
            "provider.cache_stopped_nodes: true keeps the disks of ended nodes, which still cost; use false"
        )
    for name, node in config["available_node_types"].items():
        place = f"available_node_types.{name}"
        node_config = node["node_config"]
        _check_schema(node_config, "Instance", f"{place}.node_config")
        machine = str(node_config.get("machineType"))
        found = re.fullmatch(r"[a-z]\d[a-z]?-[a-z]+-?(\d+)g?", machine)
        if not found:
            raise UserError(f"{place}.node_config.machineType: {machine!r} is no machine type; like g2-standard-8")
        cores = None if machine.endswith("g") else int(found[1])
        _check_resources(node["resources"], cores, _gcp_gpus(machine), place)
        if _gcp_gpus(machine) and node_config.get("scheduling", {}).get("onHostMaintenance") != "TERMINATE":
            raise UserError(f"{place}.node_config.scheduling.onHostMaintenance: GPU machines accept TERMINATE only")
        if not node_config.get("serviceAccounts"):
            raise UserError(f"{place}.node_config.serviceAccounts is missing; the default one may do too much")


def _gcp_gpus(machine: str) -> int | None:
    family, _, size = machine.partition("-")
    if family == "g2":
        return _G2_GPUS.get(int(size.rpartition("-")[2]))
    found = re.search(_GCP_GPUS.get(family, "$^"), machine)
    return int(found[1]) if found else None


@functools.cache
def _compute_schemas() -> dict[str, Any]:
    documents = importlib.resources.files("googleapiclient.discovery_cache.documents")
    schemas: dict[str, Any] = json.loads(documents.joinpath("compute.v1.json").read_text())["schemas"]
    return schemas


def _check_schema(value: Any, name: str, place: str) -> None:
    """Check a mapping against a schema of Google's Compute API: its keys, and strings of a fixed list.

    Raises:
        UserError: the first fault.
    """
    properties = _compute_schemas()[name]["properties"]
    if not isinstance(value, dict):
        raise UserError(f"{place}: {value!r} is no mapping")
    for key, inner in value.items():
        if key not in properties:
            raise UserError(f"{place}: {key!r} is no key of Compute Engine's {name}; {nearest(str(key), properties)}")
        shape, where = properties[key], f"{place}.{key}"
        many = shape.get("type") == "array"
        if many and not isinstance(inner, list):
            raise UserError(f"{where}: a list is needed, and this is {inner!r}")
        for element in inner if many else [inner]:
            element_shape = shape["items"] if many else shape
            if "$ref" in element_shape:
                _check_schema(element, element_shape["$ref"], where)
            elif "enum" in element_shape and element not in element_shape["enum"]:
                raise UserError(f"{where}: {element!r} is not known; {nearest(str(element), element_shape['enum'])}")

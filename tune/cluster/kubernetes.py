"""Check of a file of Kubernetes objects: Kubernetes' schemas, KubeRay's keys, and Ray's own parser of a RayCluster."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from nmt.errors import UserError, nearest

SPEC_KEYS: dict[str, set[str]] = {
    "RayCluster": {
        "rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions",
        "authOptions", "headServiceAnnotations", "gcsFaultToleranceOptions", "upgradeStrategy", "managedBy", "suspend",
    },
    "RayJob": {
        "entrypoint", "clusterSelector", "rayClusterSpec", "submissionMode", "submitterPodTemplate", "submitterConfig",
        "runtimeEnvYAML", "metadata", "jobId", "entrypointNumCpus", "entrypointNumGpus", "entrypointResources",
        "activeDeadlineSeconds", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "suspend",
        "managedBy", "deletionStrategy",
    },
    "headGroupSpec": {
        "template", "rayStartParams", "serviceType", "headService", "enableIngress", "resources", "labels",
    },
    "workerGroupSpecs": {
        "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template", "suspend",
        "idleTimeoutSeconds", "scaleStrategy", "resources", "labels",
    },
    "autoscalerOptions": {
        "version", "idleTimeoutSeconds", "upscalingMode", "resources", "image", "imagePullPolicy", "env", "envFrom",
        "volumeMounts", "securityContext",
    },
}  # fmt: skip
"""keys of KubeRay's `ray.io/v1`, version 1.5; no Python package has its schema"""


def check(documents: list[dict[str, Any]]) -> None:
    """Check the objects of a file.

    Raises:
        UserError: the first fault.
    """
    objects = [item for document in documents for item in _items(document)]
    clusters = [item for item in objects if item["kind"] == "RayCluster"]
    if not clusters:
        raise UserError("no RayCluster in it")
    for item in objects:
        place = f"{item['kind']} {item.get('metadata', {}).get('name', '')}".strip()
        if item["apiVersion"] == "ray.io/v1":
            _check_keys(item.get("spec", {}), SPEC_KEYS.get(item["kind"], set()), f"{place}: spec")
        else:
            _check_object(item, place)
    for cluster in clusters:
        _check_ray_cluster(cluster)
    for job in (item for item in objects if item["kind"] == "RayJob"):
        _check_ray_job(job, clusters)


def _items(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of a document, which is one object or a List. Raises UserError."""
    items = document.get("items", []) if document.get("kind") == "List" else [document]
    for item in items:
        if not isinstance(item, dict) or not {"apiVersion", "kind", "metadata"} <= item.keys():
            raise UserError(f"an object without apiVersion, kind or metadata: {str(item)[:80]}")
    return list(items)


def _check_keys(given: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    for key in given:
        if key not in known:
            raise UserError(f"{place}: KubeRay has no {key!r} there; {nearest(key, known)}")


def _check_object(item: Mapping[str, Any], place: str) -> None:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(map(str, error.path))
        raise UserError(f"{place}: {where + ': ' if where else ''}{error.message}") from error
    except kubernetes_validate.SchemaNotFoundError as error:
        raise UserError(f"{place}: Kubernetes has no {item['apiVersion']} {item['kind']}") from error


def _check_pod(template: Any, place: str) -> None:
    """Check a pod template: a valid Pod, with resource limits for every container. Raises UserError."""
    if not isinstance(template, dict) or not template.get("spec", {}).get("containers"):
        raise UserError(f"{place}: no containers in its template")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template.get("metadata", {}), "spec": template["spec"]}
    _check_object(pod, place)
    for container in template["spec"]["containers"]:
        if not container.get("resources", {}).get("limits"):
            raise UserError(
                f"{place}: container {container['name']} has no resources.limits, from which Ray takes a node's size"
            )


def _check_ray_cluster(cluster: dict[str, Any]) -> None:
    """Check a RayCluster: Ray's version, token authentication, pods, and numbers of pods. Raises UserError."""
    import ray

    spec, place = cluster["spec"], f"RayCluster {cluster['metadata'].get('name')}"
    if spec.get("rayVersion") != ray.__version__:
        raise UserError(f"{place}: spec.rayVersion is {spec.get('rayVersion')}, but the image has {ray.__version__}")
    if spec.get("authOptions", {}).get("mode") != "token":
        raise UserError(f"{place}: without spec.authOptions.mode token any pod of the network may run code on it")
    head = spec.get("headGroupSpec", {})
    _check_keys(head, SPEC_KEYS["headGroupSpec"], f"{place}: headGroupSpec")
    _check_keys(spec.get("autoscalerOptions", {}), SPEC_KEYS["autoscalerOptions"], f"{place}: autoscalerOptions")
    _check_pod(head.get("template"), f"{place}: headGroupSpec")
    if head.get("serviceType", "ClusterIP") != "ClusterIP":
        raise UserError(f"{place}: serviceType {head['serviceType']} opens Ray to the outside; use ClusterIP")
    for group in spec.get("workerGroupSpecs", []):
        where = f"{place}: group {group.get('groupName')}"
        _check_keys(group, SPEC_KEYS["workerGroupSpecs"], where)
        _check_pod(group.get("template"), where)
        low, high = group.get("minReplicas", 0), group.get("maxReplicas", 0)
        if not 0 <= low <= group.get("replicas", low) <= high or not high:
            raise UserError(f"{where}: minReplicas {low} and maxReplicas {high} leave no number of pods")
    if spec.get("enableInTreeAutoscaling"):
        _read_as_ray_does(cluster, place)


def _read_as_ray_does(cluster: dict[str, Any], place: str) -> None:
    """Let Ray's autoscaler parse the RayCluster, as the head pod will. Raises UserError."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    resource = copy.deepcopy(cluster)
    resource["metadata"].setdefault("namespace", "default")
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        _derive_autoscaling_config_from_ray_cr(resource)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(f"{place}: Ray's autoscaler cannot read it: {error!r}") from error


def _check_ray_job(job: Mapping[str, Any], clusters: list[dict[str, Any]]) -> None:
    """Check a RayJob: its command, how it is submitted, and that its cluster is in the file. Raises UserError."""
    spec, place = job["spec"], f"RayJob {job['metadata'].get('name')}"
    if not spec.get("entrypoint"):
        raise UserError(f"{place}: no spec.entrypoint, the command to run")
    modes = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    if spec.get("submissionMode", modes[0]) not in modes:
        raise UserError(f"{place}: submissionMode {spec['submissionMode']!r}; {nearest(spec['submissionMode'], modes)}")
    selected = spec.get("clusterSelector", {}).get("ray.io/cluster")
    names = [cluster["metadata"].get("name") for cluster in clusters]
    if ("rayClusterSpec" in spec) == ("clusterSelector" in spec) or (selected and selected not in names):
        raise UserError(f"{place}: clusterSelector ray.io/cluster {selected!r} is none of {', '.join(names)}")
    if "submitterPodTemplate" in spec:
        _check_pod(spec["submitterPodTemplate"], f"{place}: submitterPodTemplate")

"""Ray's own autoscaler and AWS provider start the nodes of cluster/gpu.yaml in the stack of cluster/aws.yaml.

AWS is moto's here: it keeps what real calls of boto3 make, and checks the policies of who makes them.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import boto3
import moto
import pytest
import yaml
from botocore.exceptions import ClientError
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.event_summarizer import EventSummarizer
from ray.autoscaler._private.node_launcher import BaseNodeLauncher
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler._private.resource_demand_scheduler import ResourceDemandScheduler
from ray.autoscaler._private.util import ConcurrentCounter

from tests.paths import ROOT
from tune.cluster.check import check_ray

pytestmark = pytest.mark.slow

CLUSTER = ROOT / "cluster"
REGION = "us-west-2"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """An account with the stack deployed, and cluster/gpu.yaml as Ray starts it there, network filled in."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("secret")
    with pytest.MonkeyPatch.context() as patch, moto.mock_aws():
        patch.chdir(CLUSTER.parent)
        patch.setenv("HOME", str(home))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        yield AWSNodeProvider.bootstrap_config(check_ray(fill(deploy())))


def deploy() -> dict[str, str]:
    """The outputs of the stack."""
    ec2 = boto3.client("ec2", REGION)
    client = boto3.client("cloudformation", REGION)
    client.create_stack(
        StackName="nmt",
        TemplateBody=(CLUSTER / "aws.yaml").read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": "Vpc", "ParameterValue": ec2.describe_vpcs()["Vpcs"][0]["VpcId"]},
            {"ParameterKey": "Address", "ParameterValue": "203.0.113.7/32"},
        ],
    )
    stack = client.describe_stacks(StackName="nmt")["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def fill(outputs: dict[str, str]) -> dict[str, Any]:
    """cluster/gpu.yaml with its values changed as its comments say."""
    image = boto3.client("ec2", REGION).describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    text = (CLUSTER / "gpu.yaml").read_text()
    for old, new in (
        ("sg-CHANGE-ME", outputs["SecurityGroup"]),
        ("head_profile CHANGE-ME", f"head_profile {outputs['HeadProfile']}"),
        ("worker_profile CHANGE-ME", f"worker_profile {outputs['WorkerProfile']}"),
    ):
        text = text.replace(old, new)
    config: dict[str, Any] = yaml.safe_load(text)
    for node in config["available_node_types"].values():
        node["node_config"]["ImageId"] = image  # moto resolves no parameter of Systems Manager
    return config


class Autoscaler:
    """The parts of Ray's autoscaler that choose and start nodes, put together as it does."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        self.availability = NodeProviderAvailabilityTracker()
        self.launcher = BaseNodeLauncher(
            self.provider, ConcurrentCounter(), EventSummarizer(), self.availability,
            node_types=config["available_node_types"], session_name="test",
        )  # fmt: skip
        self.scheduler = ResourceDemandScheduler(
            self.provider,
            config["available_node_types"],
            config["max_workers"],
            config["head_node_type"],
            config["upscaling_speed"],
        )

    def chosen(self, demands: list[dict[str, float]]) -> dict[str, int]:
        """Nodes that would be started for these demands."""
        to_launch, _ = self.scheduler.get_nodes_to_launch(
            self.provider.non_terminated_nodes({}), {}, demands, {}, [], {}, [], self.availability.summary()
        )
        return dict(to_launch)

    def start(self, node_type: str, count: int = 1) -> None:
        self.launcher.pending.inc(node_type, count)
        self.launcher.launch_node(self.config, count, node_type)


@pytest.fixture
def autoscaler(cloud: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Autoscaler]:
    """The autoscaler of a cluster that has its head alone."""
    head = next(command for command in cloud["head_start_ray_commands"] if "ray start" in command)
    variables = dict(word.split("=", 1) for word in head.split() if word.startswith("RAY_") and "=" in word)
    assert variables["RAY_enable_autoscaler_v2"] == "0"
    monkeypatch.setenv("RAY_AUTOSCALER_UTILIZATION_SCORER", variables["RAY_AUTOSCALER_UTILIZATION_SCORER"])
    autoscaler = Autoscaler(cloud)
    head_config = cloud["available_node_types"]["head"]["node_config"]
    autoscaler.provider.create_node(head_config, {"ray-node-type": "head", "ray-user-node-type": "head"}, 1)
    yield autoscaler
    autoscaler.provider.terminate_nodes([instance["InstanceId"] for instance in instances()])


def instances() -> list[dict[str, Any]]:
    """Those that run."""
    reservations = boto3.client("ec2", REGION).describe_instances()["Reservations"]
    found = [instance for reservation in reservations for instance in reservation["Instances"]]
    return [instance for instance in found if instance["State"]["Name"] != "terminated"]


def test_the_only_door_from_outside_is_ssh_from_one_address(cloud: dict[str, Any]) -> None:
    groups = boto3.client("ec2", REGION).describe_security_groups()["SecurityGroups"]
    used = {
        group for node in cloud["available_node_types"].values() for group in node["node_config"]["SecurityGroupIds"]
    }
    (group,) = (group for group in groups if group["GroupId"] in used)
    assert used == {group["GroupId"]}
    outside = [(rule["FromPort"], span["CidrIp"]) for rule in group["IpPermissions"] for span in rule["IpRanges"]]
    inside = [pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]]
    assert outside == [(22, "203.0.113.7/32")]
    assert inside == [group["GroupId"]]


def test_a_trial_brings_a_spot_node_and_nothing_when_nothing_waits(autoscaler: Autoscaler) -> None:
    assert autoscaler.chosen([]) == {}
    assert autoscaler.chosen([{"CPU": 4.0, "GPU": 1.0}]) == {"gpu-spot": 1}
    assert autoscaler.chosen([{"GPU": 1.0}] * 20)["gpu-spot"] <= 8
    autoscaler.start("gpu-spot")
    (node,) = (instance for instance in instances() if instance["InstanceType"] == "g6.2xlarge")
    assert node["InstanceLifecycle"] == "spot"
    assert {"Key": "ray-cluster-name", "Value": "nmt"} in node["Tags"]


def test_where_there_is_no_spot_node_an_on_demand_one_is_started(
    autoscaler: Autoscaler,
) -> None:
    """EC2's answer to a lack of machines comes from a hook in boto3; Ray's own code, with our scorer, does the rest."""
    asked: list[str] = []

    def none_left(params: dict[str, Any], **_: Any) -> None:
        market = params.get("InstanceMarketOptions", {}).get("MarketType", "on-demand")
        asked.append(market)
        if market == "spot":
            answer = {"Error": {"Code": "InsufficientInstanceCapacity", "Message": "none left"}}
            raise ClientError(answer, "RunInstances")  # type: ignore[arg-type]

    events = autoscaler.provider.ec2_fail_fast.meta.client.meta.events
    events.register("provide-client-params.ec2.RunInstances", none_left)
    started = collections.Counter[str]()
    for _ in range(2):
        for node_type, count in autoscaler.chosen([{"GPU": 1.0}]).items():
            autoscaler.start(node_type, count)
            started[node_type] += count
    events.unregister("provide-client-params.ec2.RunInstances", none_left)
    assert started == {"gpu-spot": 1, "gpu-on-demand": 1}
    assert "on-demand" in asked and asked.count("spot") >= 1
    (node,) = (instance for instance in instances() if instance["InstanceType"] == "g6.2xlarge")
    assert node.get("InstanceLifecycle") != "spot"


def test_disks_are_encrypted_and_end_with_their_node(autoscaler: Autoscaler) -> None:
    autoscaler.start("gpu-on-demand")
    volumes = boto3.client("ec2", REGION).describe_volumes()["Volumes"]
    assert {(volume["Size"], volume["Encrypted"], volume["VolumeType"]) for volume in volumes} == {(200, True, "gp3")}
    autoscaler.provider.terminate_nodes([instance["InstanceId"] for instance in instances()])
    assert instances() == []
    assert boto3.client("ec2", REGION).describe_volumes()["Volumes"] == []


def allowed(policy: str) -> set[str]:
    """The actions that a policy of the stack allows."""
    iam = boto3.client("iam")
    (found,) = (item for item in iam.list_policies(Scope="Local")["Policies"] if policy in item["PolicyName"])
    version = iam.get_policy_version(PolicyArn=found["Arn"], VersionId=found["DefaultVersionId"])["PolicyVersion"]
    document: Any = version["Document"]
    actions = [statement["Action"] for statement in document["Statement"]]
    return {action for given in actions for action in ([given] if isinstance(given, str) else given)}


def test_the_head_may_do_what_rays_autoscaler_calls_and_no_more(cloud: dict[str, Any]) -> None:
    """The calls are counted at boto3 while Ray's provider starts, tags, lists and ends a node."""
    called: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        called.add(f"ec2:{model.name}")

    provider = AWSNodeProvider(cloud["provider"], cloud["cluster_name"])
    for resource in (provider.ec2, provider.ec2_fail_fast):
        resource.meta.client.meta.events.register("before-call.ec2", note, unique_id="note")
    node_config = cloud["available_node_types"]["gpu-spot"]["node_config"]
    (node,) = provider.create_node(node_config, {"ray-node-type": "worker"}, 1)
    assert provider.non_terminated_nodes({"ray-node-type": "worker"}) == [node]
    provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    provider.terminate_nodes([node])
    by_the_way = {"iam:PassRole", "ssm:GetParameters"}  # checked by EC2 when it starts a node
    assert called | by_the_way == allowed("Autoscaler")
    assert all(action.startswith("s3:") and "*" not in action for action in allowed("Storage"))

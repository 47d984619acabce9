"""Every file of cluster/ is good once its values are filled in, and each mistake in one is answered in one line."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmt.errors import UserError
from tests.paths import ROOT
from tune.cluster import machines
from tune.cluster.__main__ import main
from tune.cluster.check import check_file, check_ray

CLUSTER = ROOT / "cluster"
BIN = Path(sys.executable).parent

FILLED = {
    "gpu.yaml": [("sg-CHANGE-ME", "sg-0123456789abcdef0"), ("CHANGE-ME", "nmt-profile")],
    "gpu-gcp.yaml": [("CHANGE-ME", "my-project-1")],
    "local.yaml": [("head CHANGE-ME", "head 10.0.0.1"), ("[CHANGE-ME]", "[10.0.0.2, 10.0.0.3]"), ("CHANGE-ME", "me")],
    "kuberay.yaml": [("CHANGE-ME", "123456789012")],
    "slurm.sbatch": [("CHANGE-ME", "gpu")],
}
"""what a user would write in place of what is to change"""


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where `ray up` is typed, by a user who has a token."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("secret")


def filled(name: str, *changes: tuple[str, str]) -> str:
    """The text of a file with its values filled in and `changes` made, each of which must have something to change."""
    text = (CLUSTER / name).read_text()
    for old, new in (*FILLED[name], *changes):
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def write(tmp_path: Path, name: str, *changes: tuple[str, str]) -> Path:
    path = tmp_path / name
    path.write_text(filled(name, *changes))
    return path


@pytest.mark.parametrize("name", FILLED)
def test_every_file_is_good_once_filled_in(name: str, tmp_path: Path) -> None:
    check_file(write(tmp_path, name))


@pytest.mark.parametrize("name", FILLED)
def test_a_file_is_refused_in_one_line_until_it_is_filled_in(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(CLUSTER / name)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "change" in said.err and "CHANGE-ME" in said.err


def test_each_value_to_change_is_told_once_and_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(CLUSTER / "gpu.yaml")])
    told = re.findall(r"(\S+) \(now", capsys.readouterr().err)
    assert told == ["metadata.security_group", "metadata.head_profile", "metadata.worker_profile"]


MISTAKES = [
    # what EC2 would refuse, or do otherwise than meant
    ("gpu.yaml", "region us-west-2", "region us-west-22", "'us-west-22' is no region of EC2; did you mean"),
    ("gpu.yaml", "us-west-2a,us-west-2b", "us-west-2a,eu-west-1b", "'eu-west-1b' is no zone of us-west-2"),
    ("gpu.yaml", "g6.2xlarge", "g6.2xlrge", "'g6.2xlrge' is not known to EC2; did you mean 'g6.2xlarge'?"),
    ("gpu.yaml", "InstanceType: *gpu_instance", "InstanceType: 6", "InstanceType"),
    ("gpu.yaml", "MarketType: spot", "MarketType: spott", "'spott' is not known to EC2; did you mean 'spot'?"),
    ("gpu.yaml", "{MarketType: spot}", "{MarketTyp: spot}", 'Unknown parameter in InstanceMarketOptions: "MarketTyp"'),
    ("gpu.yaml", "HttpTokens: required", "HttpTokens: require", "'require' is not known to EC2"),
    ("gpu.yaml", "        SecurityGroupIds: [*security_group]", "        ", "opens ssh to the whole internet"),
    ("gpu.yaml", "        IamInstanceProfile: {Name: *worker_profile}", "        ", "IamInstanceProfile is missing"),
    ("gpu.yaml", "        ImageId: *image", "        ", "ImageId is missing"),
    ("gpu.yaml", "image resolve:ssm:/aws", "image ubuntu/aws", "neither ami-... nor resolve:ssm"),
    ("gpu.yaml", "disk_gb 200", "disk_gb 8", "a disk under 60 GB"),
    ("gpu.yaml", "{CPU: 8, GPU: 1}", "{CPU: 8}", "resources.GPU: 0, but the machine has 1"),
    ("gpu.yaml", "{CPU: 8, GPU: 1}", "{CPU: 8, GPU: 4}", "resources.GPU: 4, but the machine has 1"),
    ("gpu.yaml", "{CPU: 8, GPU: 1}", "{CPU: 16, GPU: 1}", "resources.CPU: 16, but the machine has 8"),
    ("gpu.yaml", "{CPU: 8, GPU: 1}", "{GPU: 1}", "CPU is missing"),
    ("gpu.yaml", "cache_stopped_nodes: false", "cache_stopped_nodes: true", "still cost"),
    # nodes without a head
    ("gpu.yaml", "cluster/orphan.sh", "cluster/node.sh", "the nodes of a dead head run, and cost, for ever"),
    ("gpu-gcp.yaml", "cluster/orphan.sh", "cluster/node.sh", "the nodes of a dead head run, and cost, for ever"),
    ("gpu.yaml", "InstanceInitiatedShutdownBehavior: terminate", "EbsOptimized: true", "Behavior: None; only with"),
    ("gpu.yaml", "Behavior: terminate", "Behavior: stop", "InstanceInitiatedShutdownBehavior: 'stop'; only with"),
    ("local.yaml", "worker_start_ray_commands:\n", "worker_start_ray_commands:\n  - cluster/orphan.sh\n", "own host"),
    # numbers of nodes
    ("gpu.yaml", "min_workers: 0", "min_workers: 9", "min_workers"),
    ("gpu.yaml", "max_nodes 8", "max_nodes 0", "no node may ever be started"),
    ("gpu.yaml", "idle_timeout_minutes: 10", "idle_timeout_minutes: 0", "ends every node at once"),
    # what Ray itself refuses
    ("gpu.yaml", "max_workers: *max_nodes\nidle", "max_workerz: 8\nidle", "max_workerz"),
    ("gpu.yaml", "head_node_type: head", "head_node_type: haed", "head_node_type"),
    ("gpu.yaml", "    min_workers: 0", "    min_worker: 0", "min_worker"),
    ("gpu.yaml", "type: aws", "type: awz", "none of aws, gcp, local"),
    ("gpu.yaml", "setup_commands:\n  - chmod 600 ~/.ray/auth_token\n", "setup_commands: x\nrest:\n", "rest"),
    ("gpu.yaml", "[__pycache__]", "__pycache__", "rsync_exclude: '__pycache__' is not of type 'array'"),
    # who may use it
    ("gpu.yaml", "RAY_AUTH_MODE=token ", "", "anyone who reaches the node may run code on it"),
    ("gpu.yaml", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "shows the dashboard to others"),
    ("gpu.yaml", "  ~/.ray/auth_token:", "  ~/token:", "the token that every node needs"),
    ("gpu.yaml", "chmod 600 ~", "ls ~", "`chmod 600 ~/.ray/auth_token` is missing"),
    ("gpu.yaml", "--autoscaling-config=~/ray_bootstrap_config.yaml", "", "never starts a worker"),
    ("gpu.yaml", "RAY_enable_autoscaler_v2=0", "", "RAY_enable_autoscaler_v2=0 is missing"),
    ("gpu.yaml", "ray start --address", "ray --address", "no `ray start` in it"),
    ("gpu.yaml", "~/nmt/tune: tune", "~/nmt/tune: tunes", "tunes does not exist"),
    # Google's own
    ("gpu-gcp.yaml", "region us-central1", "region central", "like us-central1"),
    ("gpu-gcp.yaml", "zone us-central1-a", "zone us-west1-a", "a zone of the region, like us-central1-a"),
    ("gpu-gcp.yaml", "provisioningModel: SPOT", "provisioningModel: SPOTT", "did you mean 'SPOT'?"),
    ("gpu-gcp.yaml", "autoDelete: true", "autoDelet: true", "AttachedDisk; did you mean 'autoDelete'?"),
    ("gpu-gcp.yaml", "g2-standard-8", "g2standard8", "no machine type"),
    ("gpu-gcp.yaml", "g2-standard-8", "g2-standard-24", "resources.GPU: 1, but the machine has 2"),
    ("gpu-gcp.yaml", "onHostMaintenance: TERMINATE}", "onHostMaintenance: MIGRATE}", "accept TERMINATE only"),
    ("gpu-gcp.yaml", "{provisioningModel: STANDARD, onHostMaintenance: TERMINATE}", "[1]", "no mapping"),
    # own hosts
    ("local.yaml", "head 10.0.0.1", "head fast-host", "'fast-host' is no IP address"),
    ("local.yaml", "[10.0.0.2, 10.0.0.3]", "[10.0.0.2, 10.0.0.1]", "name a host twice"),
    ("local.yaml", "provider:\n", "available_node_types: {a: {resources: {}, node_config: {}}}\nprovider:\n", "not supported"),  # noqa: E501
    ("local.yaml", "worker_ips: *workers", "ips: *workers", "worker_ips"),
    # Kubernetes
    ("kuberay.yaml", "minReplicas: 0", "minReplica: 0", "did you mean 'minReplicas'?"),
    ("kuberay.yaml", "minReplicas: 0", "minReplicas: 9", "minReplicas 9"),
    ("kuberay.yaml", "authOptions: {mode: token}", "authOptions: {}", "any pod of the network may run code on it"),
    ("kuberay.yaml", "rayVersion: 2.60.0", "rayVersion: 2.9.0", "rayVersion is 2.9.0, but the image has"),
    ("kuberay.yaml", "serviceType: ClusterIP", "serviceType: LoadBalancer", "opens Ray to the outside"),
    ("kuberay.yaml", "nodeSelector: {eks", "nodeSelectors: {eks", "nodeSelectors"),
    ("kuberay.yaml", "memory: 28Gi", "memory: 28 GB", "Invalid number format: 28 GB"),
    ("kuberay.yaml", "podSelector: {matchLabels", "podSelector: {matchLabel", "NetworkPolicy nmt"),
    ("kuberay.yaml", "clusterSelector: {ray.io/cluster: nmt}", "clusterSelector: {ray.io/cluster: a}", "none of nmt"),
    ("kuberay.yaml", "submissionMode: K8sJobMode", "submissionMode: K8sMode", "did you mean 'K8sJobMode'?"),
    ("kuberay.yaml", "entrypoint: *search", "entrypont: *search", "did you mean 'entrypoint'?"),
    ("kuberay.yaml", "kind: RayCluster\n", "kind: RayClusters\n", "no RayCluster"),
    ("slurm.sbatch", "\nfi\n", "\n", "bash does not parse it"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "message"), MISTAKES, ids=lambda value: re.sub(r"\W+", "_", value)[:30])
def test_a_mistake_is_refused(name: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, (old, new))
    with pytest.raises(UserError) as refused:
        check_file(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(path))


SUBNET = "SubnetId: subnet-0123456789abcdef0"


def with_efa(tmp_path: Path, interface: str) -> Path:
    """gpu.yaml whose GPU nodes have this network interface, as docs/cluster.md says."""
    text = filled("gpu.yaml")
    (group,) = re.findall(r"^ +SecurityGroupIds: .*\n", text, re.MULTILINE)
    text = text.replace(group, "").replace("      InstanceType: *head", f"{group[2:]}      InstanceType: *head")
    added = f"        NetworkInterfaces: [{{{interface}}}]\n        Placement: {{GroupName: nmt}}\n"
    path = tmp_path / "gpu.yaml"
    path.write_text(text.replace("        # At every boot", f"{added}        # At every boot"))
    return path


def test_nodes_may_have_a_network_interface_of_their_own(tmp_path: Path) -> None:
    groups = "Groups: [*security_group]"
    check_file(with_efa(tmp_path, f"DeviceIndex: 0, InterfaceType: efa, {SUBNET}, {groups}"))
    for interface, message in (
        (f"DeviceIndex: 0, {SUBNET}", "opens ssh to the whole internet"),
        (f"DeviceIndex: 0, {groups}", "NetworkInterfaces: SubnetId is missing"),
    ):
        with pytest.raises(UserError, match=message):
            check_file(with_efa(tmp_path, interface))
    both = with_efa(tmp_path, f"DeviceIndex: 0, {SUBNET}, {groups}")
    both.write_text(
        both.read_text().replace("        Placement:", "        SecurityGroupIds: [sg-1]\n        Placement:")
    )
    with pytest.raises(UserError, match="SecurityGroupIds: Ray takes it from NetworkInterfaces alone"):
        check_file(both)


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "a: 1", "\x00", "provider: {}"])
def test_what_is_no_cluster_file_is_refused_in_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_token_the_user_is_told_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "home" / ".ray" / "auth_token").unlink()
    with pytest.raises(UserError, match="ray get-auth-token --generate"):
        check_file(write(tmp_path, "gpu.yaml"))


def test_the_token_is_made_private_or_refused(tmp_path: Path) -> None:
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.chmod(0o644)
    check_file(write(tmp_path, "gpu.yaml"))
    assert token.stat().st_mode & 0o777 == 0o600
    token.write_text("")
    with pytest.raises(UserError, match=r"auth_token: no token that you alone can read; make one: rm .*; ray get-auth"):
        check_file(write(tmp_path, "gpu.yaml"))


def test_gpu_counts_are_those_of_ec2() -> None:
    """Against the answer of EC2's DescribeInstanceTypes that moto ships."""
    import moto.ec2

    table = Path(moto.ec2.__file__).parent / "resources" / "instance_types.json.gz"
    known = json.loads(gzip.decompress(table.read_bytes()))
    compared = 0
    for family, sizes in machines.AWS_GPUS.items():
        for size, gpus in sizes.items():
            machine = known.get(f"{family}.{size}")
            if machine is None:
                continue
            compared += 1
            assert sum(gpu["Count"] for gpu in machine["GpuInfo"]["Gpus"]) == gpus, f"{family}.{size}"
            cpus = machines._ec2_cpus(size)
            assert cpus in (None, machine["VCpuInfo"]["DefaultVCpus"]), f"{family}.{size}"
    assert compared >= 20


def test_the_nodes_are_those_the_readme_promises() -> None:
    """CPU head without trials, GPU nodes from none to a maximum, spot and on-demand, ended when idle."""
    for name in ("gpu.yaml", "gpu-gcp.yaml"):
        config = check_ray(yaml.safe_load(filled(name)))
        types = config["available_node_types"]
        head = types.pop(config["head_node_type"])
        assert head["resources"] == {"CPU": 0} and head["max_workers"] == 0
        assert [node["resources"]["GPU"] for node in types.values()] == [1, 1]
        assert all(node["min_workers"] == 0 < node["max_workers"] for node in types.values())
        assert {kind.endswith("-spot") for kind in types} == {True, False}
        assert 0 < config["idle_timeout_minutes"] <= 15


def test_nodes_get_all_that_make_and_a_search_need() -> None:
    """Every tracked file that setup or a search reads is mounted, by all three `ray up` files alike."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    left_out = re.compile(
        r"(tests|docs|\.ci)/|\.gitignore$|\.gitattributes$|\.dockerignore$|Dockerfile$|compose\.yaml$"
    )
    needed = {name.split("/")[0] for name in tracked if not left_out.match(name)}
    for name in ("gpu.yaml", "gpu-gcp.yaml", "local.yaml"):
        mounts: dict[str, str] = yaml.safe_load((CLUSTER / name).read_text())["file_mounts"]
        assert {local for remote, local in mounts.items() if remote.startswith("~/nmt/")} == needed, name


SCRIPTS = [*sorted(f"cluster/{path.name}" for path in CLUSTER.glob("*.sh")), "cluster/slurm.sbatch", ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    checked = subprocess.run([BIN / "shellcheck", "-x", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    checked = subprocess.run([BIN / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_docker_compose_reads_the_search_and_its_tensorboard() -> None:
    read = subprocess.run(
        [BIN / "docker-compose", "config", "--format", "json"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "SEARCH": "voc"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert read.returncode == 0, read.stderr
    services: dict[str, Any] = json.loads(read.stdout)["services"]
    assert services["search"]["command"] == ["python", "run.py", "--search", "voc", "--resume"]
    assert services["search"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert [port["host_ip"] for port in services["tensorboard"]["ports"]] == ["127.0.0.1"]
    assert services["search"]["build"]["dockerfile"] == "Dockerfile"


def test_cfn_lint_finds_nothing_in_the_stack() -> None:
    checked = subprocess.run(
        [BIN / "cfn-lint", "--include-checks", "I", "--", "cluster/aws.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_every_node_of_a_cloud_ends_where_ray_is_never_started_on_it() -> None:
    deadline = "#!/bin/sh\nsystemd-run --unit=nmt-deadline --on-active=1h systemctl poweroff\n"
    aws, gcp = (check_ray(yaml.safe_load(filled(name))) for name in ("gpu.yaml", "gpu-gcp.yaml"))
    for config in (aws, gcp):
        commands = config["worker_start_ray_commands"]
        orphan = next(number for number, command in enumerate(commands) if "orphan.sh" in command)
        assert "nmt-deadline.timer" in commands[orphan + 1] and "ray start" in commands[orphan + 2]
        assert config["available_node_types"].pop("head")["node_config"]
    for node in aws["available_node_types"].values():
        assert node["node_config"]["UserData"] == "#cloud-boothook\n" + deadline
    for node in gcp["available_node_types"].values():
        (item,) = node["node_config"]["metadata"]["items"]
        assert item == {"key": "startup-script", "value": deadline}


def test_every_step_of_slurm_asks_for_its_cores() -> None:
    script = (CLUSTER / "slurm.sbatch").read_text().replace("\\\n", " ")
    steps = re.findall(r"^\s*srun (.*?)(?: ray | bash )", script, re.MULTILINE)
    assert len(steps) == 2 and all('--cpus-per-task="$cpus"' in step for step in steps)


def test_the_head_may_ask_for_spot_instances() -> None:
    stack = (CLUSTER / "aws.yaml").read_text()
    autoscaler = stack[stack.index("  Autoscaler:") : stack.index("Outputs:")]
    requests = [line for line in autoscaler.splitlines() if ":spot-instances-request/*" in line]
    assert len(requests) == 1 and autoscaler.index("ec2:RunInstances") < autoscaler.index(requests[0])


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("gpu.yaml", "botocore.validate"),
        ("gpu-gcp.yaml", "googleapiclient.discovery_cache.documents"),
        ("kuberay.yaml", "kubernetes_validate"),
    ],
)
def test_without_the_packages_of_developers_the_check_says_how_to_add_them(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    machines._compute_schemas.cache_clear()
    path = write(tmp_path, name)
    with pytest.raises(UserError, match=rf"{name}: cannot be checked without the package {package}; add .*=dev$"):
        check_file(path)

"""What is checked before a search starts, on one node and on several."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from nmt.data.store.ready import ready_data
from nmt.errors import UserError
from tests.paths import ROOT
from tune.driver import preflight
from tune.driver.preflight import Answer, SearchPreview, epoch_line, render, written_token
from tune.spaces.read import load_space
from tune.spaces.settings import Resources

HAS_GPU = torch.cuda.is_available()
IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and this process as its driver."""
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    ray.init(address=running.address, log_to_driver=False, logging_level="ERROR")
    yield running
    ray.shutdown()
    running.shutdown()


class OtherHost:
    """One more node of the cluster, in a mount namespace of its own."""

    def __init__(self, cluster: Cluster) -> None:
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={cluster.address}", "--num-cpus=1"]
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *start, "--block"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: len(ray.nodes()) == 2)

    @contextlib.contextmanager
    def sees(self, there: Path, instead_of: Path) -> Iterator[None]:
        """While this is open, it has `there` (a folder or a file) in another place."""
        (child,) = psutil.Process(self._process.pid).children()
        enter = ["nsenter", "--mount", "--pid", "--target", str(child.pid)]
        subprocess.run([*enter, "mount", "--bind", str(there), str(instead_of)], check=True)
        yield
        subprocess.run([*enter, "umount", "--lazy", str(instead_of)], check=True)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def check(space_file: Path, tiny_data: Path, tmp_path: Path):
    """The preflight of the tiny search."""

    def run(*, storage: str | None = None, **changes) -> SearchPreview:
        space = dataclasses.replace(load_space(space_file), **changes)
        data = ready_data(tiny_data, space.stored())
        return preflight.preflight(space, directory=tmp_path / "results/tiny", data=data, storage=storage)

    return run


def tree(folder: Path) -> set[tuple[str, int]]:
    return {(str(p.relative_to(folder)), p.stat().st_mtime_ns) for p in folder.rglob("*")}


def test_a_plan_says_what_will_run_and_leaves_nothing(cluster, check, space_file, tmp_path) -> None:
    before = tree(tmp_path)
    plan = check()
    assert (plan.trials, plan.at_once, plan.epochs) == (5, 2, 4)
    assert plan.versions["ray"] == ray.__version__ and len(plan.nodes) == 1
    text = render(plan, load_space(space_file), directory=tmp_path, data="data/tiny", storage=None)
    assert "2 at once" in text and "until 5 trials" in text and "at most 20 epochs" in text
    for resources, shown in (
        (Resources(workers=4, fewest=2), "2 to 4 workers of 1 CPUs, 0 GPUs; at most 4 epochs"),
        (Resources(gpus=0.5, packed="auto"), "1 CPUs, 0.5 GPUs; at most 4 epochs; up to 8 in one process"),
    ):
        space = dataclasses.replace(load_space(space_file), resources=resources)
        assert shown in render(plan, space, directory=tmp_path, data="data/tiny", storage=None)
    assert tree(tmp_path) == before
    # 5 trials of 4 epochs, 2 at once; an epoch of a few small steps takes less than a second
    assert plan.time.epoch is not None and 0 < plan.time.epoch < 1
    assert plan.to_dict()["hours"] == pytest.approx(5 * 4 * plan.time.epoch / 2 / 3600)
    assert re.search(r"time +about \S+ s with early stopping as usual, at most \S+ s \(\S+ s per epoch, measured", text)
    line = epoch_line(plan, load_space(space_file))
    assert line.startswith("an epoch: 4 steps of 4 pairs; time of the search: about ") and "shorter" not in line + text


def test_a_long_search_names_the_keys_that_shorten_it_in_both_previews(cluster, check, space_file, tmp_path) -> None:
    plan = check()
    plan = dataclasses.replace(plan, time=dataclasses.replace(plan.time, shorter="--trials N (now 5)"))
    text = render(plan, load_space(space_file), directory=tmp_path, data="data/tiny", storage=None)
    assert "  shorter   --trials N (now 5)\n" in text
    assert "\nshorter: --trials N (now 5)\n" in epoch_line(plan, load_space(space_file))


def test_a_search_that_cannot_run_is_refused_in_a_line(cluster, check, tmp_path) -> None:
    before = tree(tmp_path)
    with pytest.raises(UserError, match="it takes 3 workers of 1 CPUs .*and there are 2 CPUs"):
        check(resources=Resources(workers=3))
    with pytest.raises(UserError, match="/proc/results: cannot be made|/proc/results.*cannot be written"):
        check(storage="/proc/results")
    with pytest.raises(UserError, match="nowhere://x: not an address that can be opened"):
        check(storage="nowhere://x")
    assert tree(tmp_path) == before


def test_a_node_that_has_just_died_is_not_waited_for(cluster, check, monkeypatch) -> None:
    gone = {"NodeID": "ab" * 28, "NodeManagerAddress": "192.0.2.77", "Alive": True}
    alive = preflight._alive()
    monkeypatch.setattr(preflight, "_alive", lambda: [*alive, gone])
    assert check().trials == 5


@pytest.mark.slow
@pytest.mark.skipif(not IS_ROOT, reason="another host's files are mounted by root")
def test_several_nodes_must_agree(cluster, check, tiny_data, tmp_path) -> None:
    here, away, nfs, empty = (tmp_path / name for name in ("results", "away", "nfs", "empty"))
    for folder in (here, away, nfs, empty):
        folder.mkdir()
    changed = tmp_path / "metrics.py"
    changed.write_text((ROOT / "nmt/metrics.py").read_text() + "\n")
    host = OtherHost(cluster)
    try:
        assert len(check().nodes) == 2  # the same files on both, as on NFS
        with host.sees(away, instead_of=here):
            with pytest.raises(UserError, match=r"results/tiny: not the same place from node .*; give --storage an"):
                check()
            assert len(check(storage=str(nfs / "tiny")).nodes) == 2
        with (
            host.sees(changed, instead_of=ROOT / "nmt/metrics.py"),
            pytest.raises(UserError, match=r"node .* has nmt \w{12}, and the driver \w{12}; install the same on all"),
        ):
            check()
        with (
            host.sees(empty, instead_of=tiny_data),
            pytest.raises(UserError, match=rf"{tiny_data}.*\(seen from node"),
        ):
            check()
    finally:
        host.stop()
    assert not [*here.iterdir(), *away.iterdir(), *nfs.iterdir()]


def test_another_data_set_under_the_same_name_is_refused() -> None:
    here = Answer("the driver", {"python": "3"}, "0123456789ab", True, {})
    with pytest.raises(UserError, match="data: another data set on node 10.0.0.2; give --data an address that all"):
        preflight._compare(
            here, Answer("10.0.0.2", {"python": "3"}, "ba9876543210", True, {}),
            data="data", directory=Path("results"), storage=None,
        )  # fmt: skip


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node without weights, and without internet."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("nmt.model.hub.FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "nmt"))


BACKBONES = ("test_resnet", "test_convnext")
"""small models of timm, whose weights are at the hub"""


def test_a_node_that_cannot_get_the_weights_of_any_searched_backbone_is_named_in_a_line(
    no_hub: None, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    bases = [
        load_space(space_file, {"data.mode": "images", "model.backbone": name, "model.weights": "hub"}).base
        for name in BACKBONES
    ]
    token = preflight.Token(str(tmp_path), "token")
    for configs in (bases[:1], bases[1:]):
        with pytest.raises(
            UserError, match=r"model.weights=hub: weights of test_\w+: .* \(seen from node 10.0.0.7\)"
        ) as e:
            preflight.look(configs, str(tiny_data), token, "10.0.0.7")
        assert "\n" not in str(e.value) and configs[0].model.backbone in str(e.value)
    assert preflight.look([load_space(space_file).base], str(tiny_data), token, "10.0.0.7").weights == {}


def test_nodes_with_other_weights_of_a_file_are_named(tmp_path: Path) -> None:
    here = preflight.Answer("the driver", {}, "data", True, {"resnet18 (/w.pth)": "0" * 12})
    other = dataclasses.replace(here, node="10.0.0.7", weights={"resnet18 (/w.pth)": "1" * 12})
    preflight._compare(here, here, data="data", directory=tmp_path, storage=None)
    with pytest.raises(
        UserError, match=r"resnet18 \(/w.pth\): other weights on node 10.0.0.7 \(1+\), and the driver has"
    ):
        preflight._compare(here, other, data="data", directory=tmp_path, storage=None)


KILLED = """
import os, signal, sys
from tune.driver.preflight import written_token
with written_token(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_tokens_of_checks_that_were_killed_are_removed_with_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results" / "tiny"
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, check=False)
    (left,) = (folder / ".preflight").iterdir()
    with written_token(str(folder)) as token:
        assert (folder / token.name).is_file() and left.is_file()
    assert left.is_file(), "it may be that of a check under way"
    monkeypatch.setattr(preflight, "OLD_SECONDS", -1.0)
    with written_token(str(folder)):
        pass
    assert not folder.exists()
    folder.mkdir()
    (folder / "search.json").touch()
    with written_token(str(folder)):
        pass
    assert [path.name for path in folder.iterdir()] == ["search.json"]

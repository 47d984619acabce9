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
from tune.driver.preflight import Answer, SearchPreview, epoch_line, render, time_steps, written_token
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
    assert (plan.trials, plan.at_once, plan.epochs, plan.measured_in) == (5, 2, 4, None)
    assert plan.versions["ray"] == ray.__version__ and len(plan.nodes) == 1
    text = render(plan, load_space(space_file), directory=tmp_path, data="data/tiny", storage=None)
    assert "2 at once" in text and "until 5 trials" in text and "at most 20 epochs" in text
    assert tree(tmp_path) == before
    # 5 trials of 4 epochs, 2 at once; an epoch of a few small steps takes less than a second
    assert plan.seconds_per_epoch is not None and 0 < plan.seconds_per_epoch < 1
    assert plan.hours == pytest.approx(5 * 4 * plan.seconds_per_epoch / 2 / 3600)
    assert re.search(r"about \S+ s if all train in full, .* \(\S+ s per epoch, measured on a few steps\)", text)
    line = epoch_line(plan, load_space(space_file))
    assert line.startswith("an epoch: 4 steps of 4 pairs; time of the search: about ")


@pytest.mark.parametrize("changes", [{"data.mode": "images"}, {"train.compile": True}])
def test_steps_are_not_timed_where_that_is_slow_or_tells_nothing(cluster, space_file, tiny_data, changes) -> None:
    space = load_space(space_file)
    data = ready_data(tiny_data, space.stored())
    assert time_steps(space, data) is not None
    assert time_steps(load_space(space_file, changes), data) is None
    assert time_steps(dataclasses.replace(space, resources=Resources(workers=2)), data) is None
    assert time_steps(dataclasses.replace(space, resources=Resources(gpus=0.0 if HAS_GPU else 1.0)), data) is None


def test_a_time_that_is_not_known_is_not_printed(cluster, check, space_file) -> None:
    plan = dataclasses.replace(check(), seconds_per_epoch=None)
    assert "not known: no training of this data set" in epoch_line(plan, load_space(space_file))


def test_hours_come_from_earlier_epochs_of_the_same_model(cluster, check, space_file, tmp_path) -> None:
    from nmt.config import to_dict, with_overrides
    from nmt.io.files import write_json

    base = load_space(space_file).base
    for name, config, seconds in (
        ("same", with_overrides(base, {"train.steps_per_epoch": 8, "optim.lr": 0.5}, source="test"), (60, 120, 200)),
        ("other", with_overrides(base, {"model.decoder_layers": 2}, source="test"), (1, 2, 3)),
    ):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        write_json(folder / "config.json", to_dict(config))
        lines = [f'{{"epoch": {n + 1}, "val/accuracy": 0.5, "seconds": {s}}}\n' for n, s in enumerate(seconds)]
        (folder / "metrics.jsonl").write_text("".join(lines))
    plan = check()
    assert plan.measured_in == tmp_path / "results/same"
    assert f"at most 5 min (30 s per epoch in {plan.measured_in})" in epoch_line(plan, load_space(space_file))
    # 5 trials of 4 epochs, 2 at once, half of 60 s each
    assert plan.hours == pytest.approx(5 * 4 * 30 / 2 / 3600)


@pytest.mark.parametrize(
    "content", [b"\0" * 99 + b"\n", b'{"epoch": 1}\n', b'{"epoch": 1, "val/accuracy": 0.5, "seconds": []}\n']
)
def test_damaged_metrics_of_another_training_are_left_out_of_the_estimate(
    space_file, tmp_path, caplog, content
) -> None:
    from nmt.config import to_dict
    from nmt.io.files import write_json
    from tune.driver.preflight import seconds_per_epoch

    base = load_space(space_file).base
    for name, metrics in (("whole", b'{"epoch": 1, "val/accuracy": 0.5, "seconds": 60}\n'), ("damaged", content)):
        write_json(tmp_path / name / "config.json", to_dict(base))
        (tmp_path / name / "metrics.jsonl").write_bytes(metrics)
        os.utime(tmp_path / name / "metrics.jsonl", (len(name), len(name)))  # the damaged one is the newest
    with caplog.at_level("INFO"):
        assert seconds_per_epoch(base, tmp_path) == (60.0, tmp_path / "whole")
    (line,) = caplog.messages
    assert "damaged/metrics.jsonl: not used to estimate the time of an epoch" in line and "\n" not in line


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
    here = Answer("the driver", {"python": "3"}, "0123456789ab", True)
    with pytest.raises(UserError, match="data: another data set on node 10.0.0.2; give --data an address that all"):
        preflight._compare(
            here, Answer("10.0.0.2", {"python": "3"}, "ba9876543210", True),
            data="data", directory=Path("results"), storage=None,
        )  # fmt: skip


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

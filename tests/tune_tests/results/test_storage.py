"""What is put at a storage comes back whole, also over connections that break. Served on loopback."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import psutil
import pytest
import torch

import run
from nmt import checkpoint
from nmt.errors import UserError
from nmt.io import location as location
from tests.paths import ROOT
from tune.results import storage as storage_module
from tune.results.storage import Storage, run_address
from tune.results.summary import load_summary

WEIGHTS = 3_000_000
"""bytes of a checkpoint here: more than a connection's buffers hold"""


@pytest.fixture(params=["s3", "folder"])
def address(request, tmp_path: Path) -> str:
    """Of a run at each kind of storage."""
    return f"{request.getfixturevalue('bucket')}/deep/run" if request.param == "s3" else str(tmp_path / "nfs" / "run")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


def elsewhere(storage: Storage, tmp_path: Path) -> Storage:
    """The storage as seen from another node."""
    return Storage(storage.address, tmp_path / "elsewhere")


def epoch(storage: Storage, number: int) -> None:
    """What a training leaves after an epoch."""
    folder = storage.directory / "trials" / "007"
    folder.mkdir(parents=True, exist_ok=True)
    tensor = torch.full((WEIGHTS // 4,), float(number)) + torch.arange(WEIGHTS // 4)
    checkpoint.save(folder / "checkpoint.pt", {"epoch": number, "weights": tensor})
    (folder / "metrics.jsonl").write_text("".join(f'{{"epoch": {n}}}\n' for n in range(1, number + 1)))
    with (folder / "events.out.tfevents.1.host").open("a") as file:
        file.write(f"epoch {number}\n")


def stored_epoch(storage: Storage, tmp_path: Path) -> int:
    """The epoch of the checkpoint that another node finds; that it is whole, and its metrics are its own."""
    other = elsewhere(storage, tmp_path)
    other.take_over("trials/007")
    content = checkpoint.load(other.directory / "trials/007/checkpoint.pt")
    assert content["weights"][0] == content["epoch"]
    lines = (other.directory / "trials/007/metrics.jsonl").read_text().splitlines()
    assert len(lines) == content["epoch"]
    return int(content["epoch"])


def test_another_node_finds_the_newest_state(address: str, here: Path, tmp_path: Path) -> None:
    storage = pickle.loads(pickle.dumps(Storage(address, here)))
    for number in (1, 2):
        epoch(storage, number)
        storage.put("trials/007")
        assert stored_epoch(storage, tmp_path) == number
    events = "trials/007/events.out.tfevents.1.host"
    assert (tmp_path / "elsewhere" / events).read_text() == (here / events).read_text() == "epoch 1\nepoch 2\n"
    names = [name for name in location.Location(address).names("trials/007") if name.endswith(".pt")]
    assert len(names) == 1  # what is superseded is removed


def test_an_older_copy_on_a_node_is_brought_up_to_date(address: str, here: Path, tmp_path: Path) -> None:
    storage = Storage(address, here)
    epoch(storage, 1)
    storage.put("trials/007")
    other = elsewhere(storage, tmp_path)
    other.take_over("trials/007")
    epoch(other, 2)
    other.put("trials/007")
    storage.take_over("trials/007")
    assert checkpoint.load(here / "trials/007/checkpoint.pt")["epoch"] == 2


@pytest.mark.parametrize("cut", [WEIGHTS // 2, 300])
def test_an_upload_that_keeps_breaking_leaves_the_last_good_checkpoint(bucket, proxy, here, tmp_path, monkeypatch, cut):
    monkeypatch.setattr(storage_module, "ATTEMPTS", 2)
    storage = Storage(f"{bucket}/run", here)
    epoch(storage, 1)
    storage.put("trials/007")
    epoch(storage, 2)
    proxy.cut_uploads += [cut] * 1000
    with pytest.raises(UserError, match=r"s3://.*/run/trials/007/.* after 2 attempts") as error:
        storage.put("trials/007")
    assert "\n" not in str(error.value) and proxy.done
    proxy.cut_uploads.clear()
    assert stored_epoch(storage, tmp_path) == 1
    storage.put("trials/007")
    assert stored_epoch(storage, tmp_path) == 2


def test_an_upload_goes_on_when_the_storage_comes_back(bucket, proxy, here, tmp_path):
    storage = Storage(f"{bucket}/run", here)
    epoch(storage, 1)
    proxy.cut_uploads += [WEIGHTS // 2, 100, 100]
    storage.put("trials/007")
    assert not proxy.cut_uploads and stored_epoch(storage, tmp_path) == 1


def test_a_process_killed_in_mid_upload_leaves_the_last_good_checkpoint(address, here, tmp_path):
    storage = Storage(address, here)
    epoch(storage, 1)
    storage.put("trials/007")
    epoch(storage, 2)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from nmt.io.location import Location; from tune.results.storage import Storage\n"
        "upload = Location.upload\n"
        "def die(self, source, name):\n"
        "    if name.endswith('state.json'): os.kill(os.getpid(), 9)\n"
        "    upload(self, source, name)\n"
        "Location.upload = die\n"
        "Storage(sys.argv[1], Path(sys.argv[2])).put('trials/007')"
    )
    assert subprocess.run([sys.executable, "-c", code, address, str(here)], timeout=120).returncode == -9
    orphans = [name for name in location.Location(address).names("trials/007") if name.endswith(".pt")]
    assert len(orphans) == 2
    assert stored_epoch(storage, tmp_path) == 1
    assert len([n for n in location.Location(address).names("trials/007") if n.endswith(".pt")]) == 1


def test_a_damaged_file_is_refused(address, here, tmp_path):
    storage = Storage(address, here)
    epoch(storage, 1)
    storage.put("trials/007")
    place = location.Location(address)
    (name,) = [name for name in place.names() if name.endswith(".pt")]
    damaged = tmp_path / "damaged"
    damaged.write_bytes(bytes(place.names()[name]))
    place.upload(damaged, name)
    with pytest.raises(UserError, match=rf"{name}: missing or damaged"):
        elsewhere(storage, tmp_path).fetch()


def test_a_study_is_put_as_one_consistent_copy_while_it_is_written(address, here, tmp_path):
    storage = Storage(address, here)
    here.mkdir()
    study = optuna.create_study(storage=f"sqlite:///{here}/study.db", study_name="s")
    stop = threading.Event()

    def ask_and_tell() -> None:
        while not stop.is_set():
            trial = study.ask()
            study.tell(trial, trial.suggest_float("x", 0, 1))

    writer = threading.Thread(target=ask_and_tell)
    writer.start()
    try:
        while len(study.trials) < 2:
            time.sleep(0.01)
        for _ in range(5):
            storage.put()
    finally:
        stop.set()
        writer.join()
    storage.put()
    other = elsewhere(storage, tmp_path)
    other.fetch()
    copy = optuna.load_study(storage=f"sqlite:///{other.directory}/study.db", study_name="s")
    assert [t.values for t in copy.trials] == [t.values for t in study.trials] and len(copy.trials) > 1
    assert {p.name for p in other.directory.iterdir()} == {"study.db"}


def test_only_what_is_wanted_is_fetched(address, here, tmp_path):
    storage = Storage(address, here)
    epoch(storage, 1)
    (here / "search.json").write_text("{}")
    storage.put()
    storage.put("trials/007")
    other = elsewhere(storage, tmp_path)
    other.fetch(wanted=lambda name: not name.endswith(".pt"))
    found = {str(p.relative_to(other.directory)) for p in other.directory.rglob("*") if p.is_file()}
    assert found == {"search.json", "trials/007/metrics.jsonl", "trials/007/events.out.tfevents.1.host"}


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root")
def test_a_full_disk_at_the_storage_leaves_the_last_good_checkpoint(here: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2 * WEIGHTS - 500_000}", "tmpfs", str(disk)], check=True)
    try:
        storage = Storage(str(disk / "run"), here)
        epoch(storage, 1)
        storage.put("trials/007")
        epoch(storage, 2)
        with pytest.raises(UserError, match="No space left on device"):
            storage.put("trials/007")
        assert stored_epoch(storage, tmp_path) == 1
        assert psutil.disk_usage(str(disk)).free > WEIGHTS // 4  # nothing half-written stays
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.long
def test_a_search_goes_on_from_the_storage_where_its_own_disk_is_gone(
    bucket, proxy, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    space_file.write_text(space_file.read_text().replace("steps_per_epoch = 4", "steps_per_epoch = 100"))
    results, place = tmp_path / "results", f"{bucket}/results"
    command = [sys.executable, "run.py", "--search", str(space_file), "--data", str(tiny_data), "--storage", place]
    command += ["--results", str(results)]
    proxy.cut_uploads += [20_000] * 4  # checkpoints are larger

    killed = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    until(lambda: [n for n in location.Location(f"{place}/tiny").names("trials") if "/checkpoint." in n])
    killed.kill()
    killed.wait()
    assert not proxy.cut_uploads
    shutil.rmtree(results)

    assert subprocess.run(command, cwd=ROOT, timeout=300, stderr=subprocess.PIPE).returncode == 2
    assert not results.exists() or not (results / "tiny" / "search.json").exists()
    assert subprocess.run([*command, "--resume"], cwd=ROOT, timeout=600).returncode == 0
    here = load_summary(results / "tiny")
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{results}/tiny/study.db")
    assert [t.state.name for t in study.trials] == [t.state for t in here.trials] and len(here.trials) == 5

    shutil.rmtree(results)
    report = ["--storage", place, "--results", str(results)]
    assert run.main(["--report", "tiny", *report]) == 0
    assert load_summary(results / "tiny") == here
    assert run.main(["--evaluate", "tiny", "--data", str(tiny_data), *report]) == 0


def until(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("storage", "results"), [("a", "a"), ("file://a", "a"), ("a", "a/run"), ("b/run", "b"), ("l", "a")]
)
def test_a_storage_where_the_results_are_is_refused(tmp_path: Path, storage: str, results: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "l").symlink_to(tmp_path / "a")
    address = f"file://{tmp_path}/a" if "://" in storage else str(tmp_path / storage)
    with pytest.raises(
        UserError, match=r"--storage .*: run would lie where --results works, in .*/run; choose another"
    ):
        Storage(run_address(address, "run"), tmp_path / results / "run")
    Storage(run_address(f"{tmp_path}/a/stored", "run"), tmp_path / "a/run")

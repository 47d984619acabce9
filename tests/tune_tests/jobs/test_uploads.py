"""Uploads within an epoch: what a lost node leaves at the storage, and what is in the way of what."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt import checkpoint
from nmt.config import Config, to_dict
from nmt.errors import TemporaryError, UserError
from nmt.io.files import write_json
from nmt.training.history import read_metrics
from nmt.training.loop import train
from tests.paths import ROOT
from tune.jobs import packed, single
from tune.jobs.control import open_control
from tune.jobs.protocol import TrialSetup
from tune.jobs.uploads import Uploads, drop_weights
from tune.jobs.worker_group import WorkerGroup
from tune.results.storage import Storage
from tune.spaces.read import load_space
from tune.spaces.settings import Resources

FOLDER = "trials/003"


@pytest.fixture(params=["s3", "folder"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A run at each kind of storage."""
    return f"{request.getfixturevalue('bucket')}/run" if request.param == "s3" else str(tmp_path / "nfs" / "run")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "home"), tmp_path / "here")


def save(storage: Storage, step: int) -> None:
    """Save a checkpoint within the first epoch, as a training does."""
    folder = storage.directory / FOLDER
    checkpoint.save(folder / "checkpoint.pt", {"step": step}, previous=folder / "checkpoint.previous.pt")
    (folder / "config.json").write_text("{}")


def stored_step(storage: Storage, tmp_path: Path) -> int:
    """The step that another node would continue from."""
    other = Storage(storage.address, tmp_path / "elsewhere")
    other.fetch(FOLDER)
    return int(checkpoint.load(other.directory / FOLDER / "checkpoint.pt")["step"])


class Held:
    """Holds every upload of a checkpoint until it is let go; keeps how many ran at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go, self.steps, self.most, self._now = threading.Event(), threading.Event(), [], 0, 0
        put = Storage.put_copies

        def held(storage: Storage, folder: str, copies: dict[str, Path]) -> None:
            self._now += 1
            self.most = max(self.most, self._now)
            self.begun.set()
            assert self.go.wait(300)
            self.steps.append(checkpoint.load(copies["checkpoint.pt"])["step"])
            put(storage, folder, copies)
            self._now -= 1

        monkeypatch.setattr(Storage, "put_copies", held)


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_newest_state_wins_and_no_step_waits(storage: Storage, tmp_path: Path, monkeypatch) -> None:
    held = Held(monkeypatch)
    with Uploads(storage) as uploads:
        for step in (1, 2, 3):
            save(storage, step)
            uploads.later(FOLDER)  # returns, though the first upload is held
            assert held.begun.wait(300)
        held.go.set()
        until(lambda: held.steps == [1, 3])
        until(lambda: not list((storage.directory / FOLDER).glob(".*")))
    assert held.most == 1 and stored_step(storage, tmp_path) == 3
    names = sorted(path.name.split(".")[0] for path in (tmp_path / "home" / FOLDER).iterdir())
    assert names == ["checkpoint", "config", "state"]  # the earlier checkpoint is no part of it


def test_the_end_of_an_epoch_waits_for_the_upload_and_comes_last(storage: Storage, tmp_path: Path, monkeypatch) -> None:
    held = Held(monkeypatch)
    with Uploads(storage) as uploads:
        save(storage, 1)
        uploads.later(FOLDER)
        assert held.begun.wait(300)
        save(storage, 2)
        uploads.later(FOLDER)
        save(storage, 9)
        ending = threading.Thread(target=uploads.put, args=[FOLDER])
        ending.start()
        ending.join(0.3)
        assert ending.is_alive()
        held.go.set()
        ending.join(300)
        assert held.steps == [1] and stored_step(storage, tmp_path) == 9


def test_whoever_ends_waits_for_what_is_uploaded_and_drops_what_waits(
    storage: Storage, tmp_path: Path, monkeypatch
) -> None:
    held = Held(monkeypatch)
    uploads = Uploads(storage)
    for step in (1, 2):
        save(storage, step)
        uploads.later(FOLDER)
        assert held.begun.wait(300)
    threading.Timer(0.2, held.go.set).start()
    uploads.__exit__()
    assert held.steps == [1] and stored_step(storage, tmp_path) == 1
    assert not list((storage.directory / FOLDER).glob(".*"))


def test_a_storage_that_is_away_within_an_epoch_is_a_note_and_at_its_end_an_error(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nmt.io.location.FIRST_PAUSE", 0.0)
    (tmp_path / "home").write_text("in the way")
    save(storage, 1)
    with Uploads(storage) as uploads, caplog.at_level(logging.WARNING):
        uploads.later(FOLDER)
        until(lambda: caplog.messages)
        (message,) = caplog.messages
        assert message.startswith(f"{storage.directory / FOLDER}: a checkpoint within the epoch was not uploaded (")
        with pytest.raises(TemporaryError):
            uploads.put(FOLDER)
        (tmp_path / "home").unlink()
        uploads.later(FOLDER)
        until(lambda: (tmp_path / "home" / FOLDER / "state.json").is_file())
    assert stored_step(storage, tmp_path) == 1


def test_an_error_that_is_no_fault_of_the_storage_is_raised_at_the_end_of_the_epoch(storage: Storage, monkeypatch):
    begun = threading.Event()

    def broken(*_: object) -> None:
        begun.set()
        raise ZeroDivisionError

    monkeypatch.setattr(Storage, "put_copies", broken)
    save(storage, 1)
    with Uploads(storage) as uploads, pytest.raises(ZeroDivisionError):
        uploads.later(FOLDER)
        assert begun.wait(300)
        uploads.put(FOLDER)


class Quiet:
    """A node that is not taken away, and a search that is not asked to stop."""

    def __init__(self, *given: object) -> None:
        """Take what the real ones take."""

    def check(self) -> None:
        """Raise nothing."""


@pytest.mark.parametrize("module", [single, packed])
def test_a_failure_is_reported_once_no_upload_can_undo_what_the_driver_then_does(
    storage: Storage, space_file: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    space, driver, before = (
        load_space(space_file),
        Storage(storage.address, storage.directory),
        threading.active_count(),
    )
    begun, go, write = threading.Event(), threading.Event(), Storage._write_state

    def held(*given: Any) -> None:
        """Write the list of files in force, which was read long before."""
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert go.wait(300)
        write(*given)

    def fails(*given: Any, on_checkpoint: Callable[..., None], **options: Any) -> None:
        save(storage, 1)
        on_checkpoint(*([0] if module is packed else []))
        assert begun.wait(300)
        threading.Timer(0.3, go.set).start()
        raise UserError("it would come again")

    def report(event: dict[str, Any]) -> None:
        write_json(storage.directory / FOLDER / "ended.json", {})
        driver.put(FOLDER, "ended.json")

    monkeypatch.setattr(Storage, "_write_state", held)
    monkeypatch.setattr("nmt.training.loop.train", fails)
    monkeypatch.setattr("nmt.training.packed.train_packed", fails)
    monkeypatch.setattr(module, "Asked", Quiet)
    monkeypatch.setattr(module, "node_watch", Quiet)
    monkeypatch.setattr("ray.tune.report", report)
    setup = TrialSetup(
        data=str(tiny_data), directory=storage.directory, decode_grid=(), resources=Resources(), storage=storage,
        control=None,
    )  # fmt: skip
    job = {"number": 3, "configuration": to_dict(space.base), "until": 1}
    single.run_trial(setup, job) if module is single else packed.run_pack(setup, [job])
    until(lambda: threading.active_count() == before)
    assert set(driver._state(FOLDER)) == {"checkpoint.pt", "config.json", "ended.json"}


def test_without_hard_links_the_files_are_copied(storage: Storage, tmp_path: Path, monkeypatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", link)
    save(storage, 4)
    with Uploads(storage) as uploads:
        uploads.later(FOLDER)
        until(lambda: (tmp_path / "home" / FOLDER / "state.json").is_file())
    assert stored_step(storage, tmp_path) == 4 and not list((storage.directory / FOLDER).glob(".*"))


def test_a_node_keeps_no_weights_of_what_is_at_the_storage(storage: Storage, tmp_path: Path) -> None:
    save(storage, 1)
    with Uploads(storage) as uploads:
        uploads.leave(FOLDER)
        uploads.leave(FOLDER)  # nothing more to upload: the weights stay there
    assert [path.name for path in (storage.directory / FOLDER).iterdir()] == ["config.json"]
    assert stored_step(storage, tmp_path) == 1


def test_without_a_storage_everything_stays(storage: Storage) -> None:
    save(storage, 1)
    save(storage, 2)
    with Uploads(None) as uploads:
        uploads.later(FOLDER)
        uploads.put(FOLDER)
        uploads.leave(FOLDER)
    there = storage.directory / FOLDER
    assert {path.name for path in there.glob("*.pt")} == {"checkpoint.pt", "checkpoint.previous.pt"}
    drop_weights(there)
    assert not list(there.glob("*.pt"))


def command(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


TRAIN = """
import sys, time
from pathlib import Path

import nmt.training.loop
import nmt.training.packed
from tune.jobs.stored import take_over
from tune.jobs.uploads import Uploads
from tune.results.storage import Storage
from tune.spaces.read import load_space

space, data, here, address, folders, pause = sys.argv[1:]
nmt.training.loop.CHECKPOINT_SECONDS = nmt.training.packed.CHECKPOINT_SECONDS = -1  # after every step
storage, folders = Storage(address, Path(here)), folders.split(",")
config = load_space(Path(space)).base
for folder in folders:
    take_over(storage, folder, config)
with Uploads(storage) as uploads:
    def later(k=0):
        uploads.later(folders[k])
        time.sleep(float(pause))
    hooks = {"on_checkpoint": later, "resume": True, "until": 2, "data": Path(data)}
    directories = [storage.directory / folder for folder in folders]
    if len(folders) == 1:
        nmt.training.loop.train(
            config, directory=directories[0], on_epoch=lambda _: uploads.put(folders[0]), **hooks
        )
    else:
        nmt.training.packed.train_packed(
            [config] * len(folders), directories=directories, on_epoch=lambda k, _: uploads.put(folders[k]), **hooks
        )
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "folders",
    [
        pytest.param("trials/003", id="single"),
        pytest.param("trials/003,trials/004", id="packed", marks=pytest.mark.long),
    ],
)
def test_a_node_that_is_lost_within_an_epoch_costs_no_more_than_the_steps_since(
    address: str, space_file: Path, tiny_data: Path, tmp_path: Path, folders: str
) -> None:
    """SIGKILL after an upload within the second epoch; the next node has an empty disk."""
    here, whole = tmp_path / "here", tmp_path / "whole"
    train(load_space(space_file).base, data=tiny_data, directory=whole, until=2)
    killed = subprocess.Popen(
        command(TRAIN, space_file, tiny_data, here, address, folders, 3.0), cwd=ROOT, start_new_session=True
    )
    try:
        until(lambda: all(position(address, folder, tmp_path) > (1, 1) for folder in folders.split(",")))
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    shutil.rmtree(here)
    before = [position(address, folder, tmp_path) for folder in folders.split(",")]
    assert all((1, 1) < at < (2, 0) for at in before)
    subprocess.run(
        command(TRAIN, space_file, tiny_data, here, address, folders, 0.0), cwd=ROOT, check=True, timeout=600
    )
    for folder in folders.split(","):
        found, expected = (checkpoint.load(path / "checkpoint.pt") for path in (here / folder, whole))
        for name, value in expected["model"].items():
            assert torch.allclose(found["model"][name], value, atol=1e-5), name
        assert [m["epoch"] for m in read_metrics(here / folder)] == [1, 2]


@pytest.mark.slow
def test_a_group_of_workers_whose_nodes_are_lost_within_an_epoch_goes_on_from_the_storage(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Rank 0 dies within the second epoch, and nothing stays on the disk."""
    config, here, died = load_space(space_file).base, tmp_path / "here", tmp_path / "died"
    storage = Storage(str(tmp_path / "home"), here)
    train(config, data=tiny_data, directory=tmp_path / "whole", until=2)

    def lossy(config: Config, *, directory: Path, on_checkpoint: Callable[[], None], **options: Any) -> None:
        import torch.distributed as dist

        import nmt.training.loop

        nmt.training.loop.CHECKPOINT_SECONDS = -1

        def then_die() -> None:
            on_checkpoint()
            if died.exists() or dist.get_rank() or not read_metrics(directory):
                return
            while list(directory.glob(".*.partial")):  # until this upload has ended
                time.sleep(0.05)
            died.touch()
            shutil.rmtree(directory)
            os._exit(9)

        nmt.training.loop.train(config, directory=directory, on_checkpoint=then_die, **options)

    lines: list[str] = []
    with open_control() as control:
        group = WorkerGroup(
            config, directory=here / FOLDER, data=str(tiny_data), arguments={"until": 2, "decode_grid": ()},
            resources=Resources(workers=2), control=control, storage=(storage, FOLDER), scratch=tmp_path / "ray",
            note=lines.append, training=lossy,
        )  # fmt: skip
        epochs = [group.next_epoch(), group.next_epoch()]
        group.stop()
    assert [metrics and metrics["epoch"] for metrics in epochs] == [1, 2] and died.exists(), lines
    begun = json.loads((here / FOLDER / "hosts.json").read_text())
    assert [(entry["epoch"], entry["step"] > 0) for entry in begun] == [(1, False), (2, True)]
    found, expected = (checkpoint.load(folder / "checkpoint.pt") for folder in (here / FOLDER, tmp_path / "whole"))
    for name, value in expected["model"].items():
        assert torch.allclose(found["model"][name], value, atol=1e-5), name


SLOWLY = """
import sys, time
import nmt.training.loop
import run
from tune.jobs.uploads import Uploads

pause, *arguments = sys.argv[1:]
nmt.training.loop.CHECKPOINT_SECONDS = -1  # after every step
later = Uploads.later
Uploads.later = lambda uploads, folder="": (later(uploads, folder), time.sleep(float(pause)))
sys.exit(run.main(arguments))
"""


@pytest.mark.slow
def test_a_single_training_goes_on_from_within_its_epoch(space_file: Path, tiny_data: Path, tmp_path: Path) -> None:
    """`--train --storage`, killed, then continued where its results are gone."""
    config = load_space(space_file, {"train.epochs": 2}).base
    train(config, data=tiny_data, directory=tmp_path / "whole")
    write_json(tmp_path / "tiny.json", to_dict(config))
    name, place = f"{tmp_path.name}-tiny", tmp_path / "place"
    arguments = ["--train", tmp_path / "tiny.json", "--data", tiny_data, "--results", tmp_path / "results"]
    arguments += ["--storage", place]
    killed = subprocess.Popen(command(SLOWLY, 3.0, *arguments), cwd=ROOT, start_new_session=True)
    try:
        until(lambda: (1, 1) < position(f"{place}/{name}", "", tmp_path) < (2, 0))
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    shutil.rmtree(tmp_path / "results")
    resumed = subprocess.run(
        command(SLOWLY, 0.0, *arguments, "--resume"), cwd=ROOT, timeout=600, check=True, capture_output=True, text=True
    )
    assert "training: 1 of 2 epochs left" in resumed.stdout
    found, expected = (checkpoint.load(tmp_path / at / "checkpoint.pt") for at in (f"results/{name}", "whole"))
    for key, value in expected["model"].items():
        assert torch.allclose(found["model"][key], value, atol=1e-5), key


def position(address: str, folder: str, tmp_path: Path) -> tuple[int, int]:
    """The (epoch, step) that the storage holds of a trial."""
    other = Storage(address, tmp_path / "look")
    other.fetch(folder)
    path = tmp_path / "look" / folder / "checkpoint.pt"
    if not path.is_file():
        return 0, 0
    progress = checkpoint.load(path)["progress"]
    return progress["epoch"], progress["step"]

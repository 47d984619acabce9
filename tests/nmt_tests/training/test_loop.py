"""Training, resuming and evaluating for real, on a toy data set whose features carry the keypoint's identity."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nmt import checkpoint
from nmt.config import Config, DecodeConfig, load_config
from nmt.errors import TemporaryError, UserError
from nmt.inference.evaluate import evaluate_checkpoint
from nmt.training import state
from nmt.training.history import EpochResult
from nmt.training.loop import train
from nmt.training.trainer import Trainer
from tests.nmt_tests.processes import run_together
from tests.nmt_tests.toy_training import SAME, assert_same_training, history, same_weights, small


def test_training_learns_and_reports_the_contracts_metrics(trained):
    lines = history(trained)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["val/accuracy"] > 0.5
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]
    expected = {"val/accuracy/chair", "val/accuracy/plane", "val/accuracy_fixed_decode", "train/loss/info_nce"}
    assert expected <= set(lines[0])
    assert {p.name for p in trained.iterdir() if "tfevents" not in p.name} == {
        "config.json", "data_set.json", "checkpoint.pt", "checkpoint.previous.pt", "best.pt", "metrics.jsonl",
    }  # fmt: skip


def test_same_seed_trains_the_same_and_another_seed_another(trained, toy_data, tmp_path):
    train(small(), data=toy_data, directory=tmp_path / "same")
    train(small(train__seed=1), data=toy_data, directory=tmp_path / "other")
    assert history(tmp_path / "same") == history(trained)
    assert history(tmp_path / "other") != history(trained)


class Stop(Exception):
    pass


def test_a_run_stopped_by_its_hook_and_resumed_equals_an_uninterrupted_one(trained, toy_data, tmp_path):
    def stop(report: EpochResult) -> None:
        if report.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(small(), data=toy_data, directory=tmp_path, on_epoch=stop)
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert history(tmp_path) == history(trained)
    assert same_weights(trained, tmp_path)


def test_a_run_trained_in_jobs_up_to_an_epoch_equals_one_in_one_go(trained, toy_data, tmp_path):
    for until in (1, 1, 3):
        report = train(small(), data=toy_data, directory=tmp_path, resume=True, until=until)
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == until >= report.epoch
    assert same_weights(trained, tmp_path)


def _signal_in_step(step: int, number: int = signal.SIGTERM) -> None:
    """From now on this process gets a signal in its `step`th step."""
    steps = itertools.count(1)
    original = Trainer.train_step

    def step_then_signal(self, parts):
        if next(steps) == step:
            os.kill(os.getpid(), number)
        return original(self, parts)

    Trainer.train_step = step_then_signal


def test_a_run_interrupted_in_mid_epoch_resumes_at_the_exact_step(trained, toy_data, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", Trainer.train_step)  # undone at the end
        _signal_in_step(9)
        train(small(), data=toy_data, directory=tmp_path)
    progress = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 3)
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert same_weights(trained, tmp_path)
    assert history(tmp_path) == history(trained)


def test_the_whole_decode_grid_is_read_from_one_evaluation(toy_data, tmp_path):
    grid = [DecodeConfig(sinkhorn_iterations=i, epsilon=e) for i in (0, 1, 10) for e in (0.02, 0.5)]
    report = train(small(train__epochs=1), data=toy_data, directory=tmp_path, decode_grid=grid)
    metrics = report.metrics
    assert metrics["val/accuracy"] >= metrics["val/accuracy_fixed_decode"]
    best = json.loads(json.dumps({k: v for k, v in metrics.items() if k.startswith("decode/")}))
    saved = torch.load(tmp_path / "best.pt", weights_only=True)["config"]["decode"]
    assert saved.pop("unmatched") == "off" and {f"decode/{k}": v for k, v in saved.items()} == best
    # the saved best reads the same accuracy again, on its own
    assert evaluate_checkpoint(tmp_path / "best.pt", data=toy_data, split="val").mean["NMT"] == pytest.approx(
        metrics["val/accuracy"]
    )


def test_missing_data_set_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match="run.py --prepare toy"):
        train(small(), data=tmp_path / "toy", directory=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _worker(rank: int, world: int, config: Config, data: Path, directory: Path, signal_at: int | None) -> None:
    """One of `world` processes that train together; rank 1 gets SIGTERM in its step `signal_at`."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{directory}/rendezvous", rank=rank, world_size=world)
    if signal_at is not None and rank == 1:
        _signal_in_step(signal_at)
    with contextlib.suppress(KeyboardInterrupt):
        train(config, data=data, directory=directory / "run")
    torch.distributed.destroy_process_group()


def train_together(world: int, config: Config, data: Path, directory: Path, *, signal_at: int | None = None) -> Path:
    """Train with real processes; returns the training's directory."""
    run_together(_worker, world, config, data, directory, signal_at, count=world)
    return directory / "run"


@pytest.mark.parametrize(
    "workers", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_workers_end_with_the_parameters_of_one(alone, toy_data, tmp_path, workers):
    # Five pairs a step: some workers have one more than others.
    together = train_together(workers, small(**SAME), toy_data, tmp_path)
    assert_same_training(alone, together)
    assert {metrics["workers"] for metrics in history(together)} == {workers}
    (entry,) = json.loads((together / "hosts.json").read_text())
    assert (entry["epoch"], entry["step"]) == (1, 0)
    host = {"host": socket.gethostname(), "device": "cpu"}
    assert entry["workers"] == [{"rank": rank, **host} for rank in range(workers)]


@pytest.mark.slow
def test_two_workers_interrupted_in_mid_epoch_and_resumed_by_one_end_as_one(alone, toy_data, tmp_path):
    run = train_together(2, small(**SAME, train__micro_batch=2), toy_data, tmp_path, signal_at=9)
    progress = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["epoch"] == 1 and 3 <= progress["step"] <= 6  # asked every ten steps, and at the last of an epoch
    train(small(**SAME), data=toy_data, directory=run, resume=True)
    assert_same_training(alone, run)
    assert [metrics["workers"] for metrics in history(run)] == [2, 1, 1]


# An activation at the kink of a ReLU6 flips the sign of a weight's gradient by a last bit. The backbone's rate is too
# low to move a weight by 1e-5 in four steps then; dropped branches that differ would move the head by its own rate.
DEEP = SAME | {
    "data__mode": "images", "data__eval_pairs": 2, "data__pairs_per_step": 3, "model__drop_path": 0.5,
    "model__weights": "package", "optim__backbone_lr_scale": 0.02, "train__epochs": 2, "train__steps_per_epoch": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def deep(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One worker's training of a backbone with stochastic depth."""
    directory = tmp_path_factory.mktemp("deep")
    train(small(**DEEP), data=toy_data, directory=directory)
    return directory


def test_stochastic_depth_changes_the_training_and_follows_the_seed(deep, toy_data, tmp_path) -> None:
    def first_loss(name: str, **changes) -> float:
        train(small(**(DEEP | {"train__epochs": 1} | changes)), data=toy_data, directory=tmp_path / name)
        return history(tmp_path / name)[0]["train/loss"]

    loss = history(deep)[0]["train/loss"]
    assert first_loss("same") == loss != first_loss("off", model__drop_path=0.0)


def test_stochastic_depth_does_not_depend_on_the_micro_batch(deep, toy_data, tmp_path) -> None:
    train(small(**DEEP, train__micro_batch=1), data=toy_data, directory=tmp_path)
    assert_same_training(deep, tmp_path)


def test_stochastic_depth_does_not_depend_on_the_workers(deep, toy_data, tmp_path) -> None:
    assert_same_training(deep, train_together(2, small(**DEEP), toy_data, tmp_path))


def test_stochastic_depth_continues_where_it_was_interrupted(deep, toy_data, tmp_path) -> None:
    before = multiprocessing.active_children()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", Trainer.train_step)  # undone at the end
        _signal_in_step(3)
        train(small(**DEEP), data=toy_data, directory=tmp_path)
    assert multiprocessing.active_children() == before  # the loader's have ended
    train(small(**DEEP), data=toy_data, directory=tmp_path, resume=True)
    assert multiprocessing.active_children() == before
    assert same_weights(deep, tmp_path)
    assert history(tmp_path) == history(deep)


def test_what_a_crash_in_mid_write_left_is_mended(trained, toy_data, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    lines = (trained / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(lines[:-1]))  # behind the checkpoint
    (tmp_path / "run" / ".best.pt.0a1b2c3d.partial").write_bytes(b"half")
    train(small(), data=toy_data, directory=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "".join(lines)
    assert not list((tmp_path / "run").glob(".*"))


IMPORTED = """
import sys
from pathlib import Path
from nmt.config import load_config
from nmt.inference.evaluate import evaluate_checkpoint
from nmt.training.loop import train

config, data, directory = (Path(argument) for argument in sys.argv[1:])
train(load_config(config), data=data, directory=directory, until=1)
evaluate_checkpoint(directory / "best.pt", data=data, split="val")
import tune.cli.main, tune.cli.prepare, tune.cli.report, tune.driver.search, tune.evidence.repeated, tune.jobs.trainable

heavy = ("timm", "torchvision", "torch._dynamo", "torch._inductor", "sympy", "torch_geometric", "matplotlib")
print([name for name in heavy if name in sys.modules])
"""


def test_a_training_on_features_and_a_search_import_nothing_that_builds_or_compiles_nets(trained, toy_data, tmp_path):
    command = [sys.executable, "-c", IMPORTED, trained / "config.json", toy_data, tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_run_is_reproduced_from_the_configuration_it_left(trained, toy_data, tmp_path):
    train(load_config(trained / "config.json"), data=toy_data, directory=tmp_path)
    assert history(tmp_path) == history(trained)


def test_steps_go_on_while_a_checkpoint_is_written_and_the_epoch_is_reported_after_it(
    trained, toy_data, tmp_path, monkeypatch
):
    steps, reports, waited = itertools.count(1), [], []
    more, written, train_step = threading.Event(), state.write, Trainer.train_step

    def write(content, path):
        if content["progress"]["epoch"] == 1:
            waited.append(more.wait(60))
        written(content, path)

    def step(self, parts):
        if next(steps) == 6 + 3:
            more.set()
        return train_step(self, parts)

    def on_epoch(report):
        lines = [line["epoch"] for line in history(tmp_path)]
        assert checkpoint.load(tmp_path / "checkpoint.pt")["progress"]["epoch"] == lines[-1] == report.epoch
        reports.append((report.epoch, next(steps) > 6 * report.epoch))

    monkeypatch.setattr(state, "write", write)
    monkeypatch.setattr(Trainer, "train_step", step)
    train(small(), data=toy_data, directory=tmp_path, on_epoch=on_epoch)
    assert waited == [True] and reports == [(1, True), (2, True), (3, True)]
    assert history(tmp_path) == history(trained)
    assert same_weights(trained, tmp_path)


def _fails_at_epoch(epoch: int, fail: Callable[[], None]) -> Callable[[], None]:
    """From now on the checkpoint of an epoch fails in mid-write; returns what undoes that."""
    save, fsync = state.write, os.fsync

    def write(content, path):
        if content["progress"]["epoch"] == epoch:
            os.fsync = lambda descriptor: fail()
        try:
            save(content, path)
        finally:
            os.fsync = fsync

    state.write = write
    return lambda: setattr(state, "write", save)


def test_a_checkpoint_that_fails_in_the_background_ends_the_training_in_one_line(trained, toy_data, tmp_path):
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    reports: list[int] = []
    undo = _fails_at_epoch(2, full)
    try:
        with pytest.raises(TemporaryError, match=r"checkpoint.pt: cannot be written \(No space left on device\)"):
            train(small(), data=toy_data, directory=tmp_path, on_epoch=lambda report: reports.append(report.epoch))
    finally:
        undo()
    assert reports == [1] == [line["epoch"] for line in history(tmp_path)]
    assert checkpoint.load(tmp_path / "checkpoint.pt")["progress"]["epoch"] == 1 and not list(tmp_path.glob(".*"))
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert history(tmp_path) == history(trained)
    assert same_weights(trained, tmp_path)


def _dies_at_epoch(rank: int, data: Path, directory: Path) -> None:
    torch.set_num_threads(1)
    _fails_at_epoch(2, lambda: os._exit(9))
    train(small(), data=data, directory=directory)


def test_a_process_that_dies_while_it_writes_leaves_the_epoch_before(trained, toy_data, tmp_path):
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="exit code 9"):
        run_together(_dies_at_epoch, toy_data, tmp_path, count=1)
    assert [line["epoch"] for line in history(tmp_path)] == [1]
    assert checkpoint.load(tmp_path / "checkpoint.pt")["progress"]["epoch"] == 1
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert history(tmp_path) == history(trained)


def test_an_epoch_whose_report_was_waiting_is_reported_when_the_next_one_fails(toy_data, tmp_path, monkeypatch):
    steps, reports = itertools.count(1), []
    train_step, write = Trainer.train_step, state.write
    failed = threading.Event()

    def step(self, parts):
        if next(steps) == 7:
            failed.set()
            raise RuntimeError("the first step of the second epoch")
        return train_step(self, parts)

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr(state, "write", lambda content, path: failed.wait(60) and write(content, path))
    with pytest.raises(RuntimeError, match="the first step"):
        train(small(), data=toy_data, directory=tmp_path, on_epoch=lambda report: reports.append(report.epoch))
    assert reports == [1] == [line["epoch"] for line in history(tmp_path)]


FULL_DISK = """
import sys
from pathlib import Path
from nmt import checkpoint
from nmt.config import load_config
from nmt.errors import UserError
from nmt.training.loop import train

config, data, directory = (Path(argument) for argument in sys.argv[1:])

def fill(report):
    try:
        with open(directory / "ballast", "wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass
    except OSError as error:
        print(error.strerror)

try:
    train(load_config(config), data=data, directory=directory, on_epoch=fill)
except UserError as error:
    print(error)
print(checkpoint.load(directory / "checkpoint.pt")["progress"]["epoch"], *sorted(p.name for p in directory.iterdir()))
(directory / "ballast").unlink()
train(load_config(config), data=data, directory=directory, resume=True)
"""


@pytest.mark.slow
def test_training_on_a_full_disk_keeps_its_last_checkpoint_and_goes_on_when_there_is_space(trained, toy_data, tmp_path):
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here, and so no disk of its own for the training")
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    done = subprocess.run(
        [
            *own_mounts, "sh", "-ec",
            'mount -t tmpfs -o size=16m tmpfs "$1"; "$2" -c "$3" "$4" "$5" "$1/run"; cp -r "$1/run" "$6"',
            "sh", disk, sys.executable, FULL_DISK, trained / "config.json", toy_data, out,
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    full, error, left = done.stdout.splitlines()
    assert full == "No space left on device" and "cannot be written" in error and "--results" in error
    assert left.startswith("1 ballast best.pt checkpoint.pt config.json data_set.json ") and ".partial" not in left
    assert history(out) == history(trained)
    assert same_weights(trained, out)

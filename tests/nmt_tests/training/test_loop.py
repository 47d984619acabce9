"""Training, resuming and evaluating for real, on a toy data set whose features carry the keypoint's identity."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing

from nmt.config import Config, DecodeConfig, load_config, with_overrides
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.inference.evaluate import evaluate_checkpoint
from nmt.inference.load import load_model
from nmt.inference.pictures import RIGHT, draw_sheet
from nmt.inference.sample import sample_pairs
from nmt.training.history import EpochResult
from nmt.training.loop import train
from nmt.training.out_of_memory import twice_within_memory
from nmt.training.trainer import DivergedError, Trainer, learning_rate_factor

SMALL = {
    "data.name": "toy",
    "data.mode": "features",
    "data.image_size": 64,
    "data.pairs_per_step": 4,
    "data.eval_pairs": 12,
    "model.backbone": "tf_efficientnet_lite0",
    "model.weights": "random",
    "model.d_model": 24,
    "model.heads": 3,
    "model.decoder_layers": 2,
    "optim.lr": 5e-3,
    "optim.milestones": [2],
    "train.epochs": 3,
    "train.steps_per_epoch": 6,
}


def small(**changes) -> Config:
    return with_overrides(Config(), SMALL | {k.replace("__", "."): v for k, v in changes.items()}, source="test")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that meet hundreds of times a step crawl where another process holds a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    train(small(), data=toy_data, directory=directory)
    return directory


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "checkpoint.pt", weights_only=True)["model"]


def comparable(metrics: dict) -> dict:
    """Without what time decides."""
    return {k: v for k, v in metrics.items() if k not in ("seconds", "train/pairs_per_second", "inference_seconds")}


def history(directory: Path) -> list[dict]:
    return [comparable(json.loads(line)) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1), (1, 1), (2, 0.1), (4, 0.1), (5, 0.01), (11, 0.01)])
def test_learning_rate_drops_after_epochs_two_and_five(epoch, factor):
    assert learning_rate_factor(epoch, (2, 5), 0.1) == pytest.approx(factor)


def test_training_learns_and_reports_the_contracts_metrics(trained):
    lines = history(trained)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["val/accuracy"] > 0.5
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]
    expected = {"val/accuracy/chair", "val/accuracy/plane", "val/accuracy_fixed_decode", "train/loss/info_nce"}
    assert expected <= set(lines[0])
    assert {p.name for p in trained.iterdir() if "tfevents" not in p.name} == {
        "config.json", "checkpoint.pt", "best.pt", "metrics.jsonl",
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
    for name, value in weights(trained).items():
        assert torch.equal(value, weights(tmp_path)[name]), name


def test_a_run_trained_in_jobs_up_to_an_epoch_equals_one_in_one_go(trained, toy_data, tmp_path):
    for until in (1, 1, 3):
        report = train(small(), data=toy_data, directory=tmp_path, resume=True, until=until)
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == until >= report.epoch
    for name, value in weights(trained).items():
        assert torch.equal(value, weights(tmp_path)[name]), name


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
    for name, value in weights(trained).items():
        assert torch.equal(value, weights(tmp_path)[name]), name
    assert history(tmp_path) == history(trained)


def test_the_whole_decode_grid_is_read_from_one_evaluation(toy_data, tmp_path):
    grid = [DecodeConfig(sinkhorn_iterations=i, epsilon=e) for i in (0, 1, 10) for e in (0.02, 0.5)]
    report = train(small(train__epochs=1), data=toy_data, directory=tmp_path, decode_grid=grid)
    metrics = report.metrics
    assert metrics["val/accuracy"] >= metrics["val/accuracy_fixed_decode"]
    best = json.loads(json.dumps({k: v for k, v in metrics.items() if k.startswith("decode/")}))
    saved = torch.load(tmp_path / "best.pt", weights_only=True)["config"]["decode"]
    assert {f"decode/{k}": v for k, v in saved.items()} == best
    # the saved best reads the same accuracy again, on its own
    assert evaluate_checkpoint(tmp_path / "best.pt", data=toy_data, split="val").mean["NMT"] == pytest.approx(
        metrics["val/accuracy"]
    )


def test_evaluation_stands_beside_the_baselines(trained, toy_data):
    result = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test")
    assert result.mean["NMT"] > result.mean["positions"]
    assert 0.1 < result.mean["chance"] < 0.2  # 6 to 10 keypoints a pair
    assert "mean" in result.table() and "chair" in result.table()


def test_divergence_is_an_error_not_a_result(toy_data, tmp_path):
    with pytest.raises(DivergedError, match="no longer finite"):
        train(small(optim__lr=1.0, loss__temperature=1e-44), data=toy_data, directory=tmp_path)


def test_a_checkpoint_of_another_configuration_is_refused(trained, toy_data):
    with pytest.raises(UserError, match="another configuration: optim.lr is 0.005 in it and 0.001 now; choose"):
        train(small(optim__lr=1e-3), data=toy_data, directory=trained, resume=True)


def test_missing_data_set_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match="run.py --prepare toy"):
        train(small(), data=tmp_path / "toy", directory=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_show_right_matches_green(trained, toy_data):
    matcher, config, categories = load_model(trained / "best.pt")
    assert categories == ["chair", "plane"]
    pairs = sample_pairs(matcher, ObjectStore.open(toy_data), _table(toy_data), config, split="val", count=4)
    assert {pair.label for pair in pairs} == {"chair", "plane"}
    sheet = draw_sheet(pairs)
    assert sheet.dtype == np.uint8 and (sheet == RIGHT).all(-1).any()


def _table(data: Path):
    from nmt.data.store.features import FeatureTable

    return FeatureTable.open(data, small().model, 64)


def test_end_to_end_training_moves_backbone_and_head(toy_data, tmp_path):
    config = small(
        data__mode="images", data__pairs_per_step=2, data__eval_pairs=2, model__backbone="tf_efficientnet_lite0",
        optim__backbone_lr_scale=0.5, train__epochs=1, train__steps_per_epoch=2,
    )  # fmt: skip
    before = Trainer(config, data=toy_data).matcher.state_dict()
    train(config, data=toy_data, directory=tmp_path)
    after = weights(tmp_path)
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"backbone", "head"}
    statistics = [n for n in after if "running_mean" in n]
    assert statistics and all(torch.equal(after[n], before[n]) for n in statistics)


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
    torch.multiprocessing.spawn(_worker, (world, config, data, directory, signal_at), nprocs=world)
    return directory / "run"


# Adam divides by the gradient's size, so a rate magnifies the last bits of gradients that are almost zero. At the
# published rate they differ by 1e-5 to 3e-5 between processors; a pair left out changes parameters by the rate itself.
SAME = {"optim__lr": 5e-5, "data__pairs_per_step": 5}


@pytest.fixture(scope="module")
def alone(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker makes of `SAME`."""
    directory = tmp_path_factory.mktemp("alone")
    train(small(**SAME), data=toy_data, directory=directory)
    return directory


def assert_same_training(one: Path, other: Path) -> None:
    parameters = weights(one), weights(other)
    assert max(float((parameters[0][name] - parameters[1][name]).abs().max()) for name in parameters[0]) < 1e-5
    for before, after in zip(history(one), history(other), strict=True):
        for name in ("train/loss", "train/loss/info_nce", "train/loss/layer"):
            assert after[name] == pytest.approx(before[name], abs=1e-5)
        assert after["val/accuracy"] == before["val/accuracy"]


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
    assert (progress["epoch"], progress["step"]) == (1, 3)
    train(small(**SAME), data=toy_data, directory=run, resume=True)
    assert_same_training(alone, run)
    assert [metrics["workers"] for metrics in history(run)] == [2, 1, 1]


def test_more_workers_than_pairs_are_refused(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.distributed.world_size", lambda: 5)
    with pytest.raises(UserError, match="data.pairs_per_step = 4 leaves some of 5 workers without a pair"):
        Trainer(small(), data=toy_data)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_a_step_in_parts_is_the_same_step(alone, toy_data, tmp_path, micro_batch):
    largest = 0
    original = Trainer._backward

    def measured(self, part):
        nonlocal largest
        largest = max(largest, part.num_pairs)
        return original(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_backward", measured)
        train(small(**SAME, train__micro_batch=micro_batch), data=toy_data, directory=tmp_path)
    assert largest == micro_batch
    assert_same_training(alone, tmp_path)


def out_of_memory_above(monkeypatch: pytest.MonkeyPatch, pairs: int) -> list[int]:
    """From the eighth step on, more pairs at once fail, as on a GPU that is full; returns the sizes that failed."""
    steps, failed = 0, []
    original = Trainer._backward

    def limited(self, part):
        nonlocal steps
        steps += 1
        if steps > 8 and part.num_pairs > pairs:
            failed.append(part.num_pairs)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, part)

    monkeypatch.setattr(Trainer, "_backward", limited)
    return failed


def train_within_memory(config: Config, data: Path, directory: Path) -> None:
    twice_within_memory(lambda given, again: train(given, data=data, directory=directory, resume=again), config)


def test_training_out_of_memory_goes_on_with_half_the_pairs_at_once(alone, toy_data, tmp_path, monkeypatch):
    failed = out_of_memory_above(monkeypatch, 3)
    train_within_memory(small(**SAME), toy_data, tmp_path)
    assert failed == [5]
    assert_same_training(alone, tmp_path)


def test_training_that_does_not_fit_by_half_either_says_what_to_set(toy_data, tmp_path, monkeypatch):
    failed = out_of_memory_above(monkeypatch, 1)
    message = "again, with 3 pairs per forward pass: set train.micro_batch to 1 or less"
    with pytest.raises(UserError, match=message) as caught:
        train_within_memory(small(**SAME), toy_data, tmp_path)
    assert failed == [5, 3] and "\n" not in str(caught.value)
    # and with that it goes on from where it was
    train(small(**SAME, train__micro_batch=1), data=toy_data, directory=tmp_path, resume=True)


def test_nmt_trains_where_ray_optuna_and_pydantic_are_absent():
    code = """
import sys
for name in ("ray", "optuna", "pydantic"):
    sys.modules[name] = None
import nmt, nmt.training.loop, nmt.inference.evaluate, nmt.reference, nmt.inference.match, nmt.data.prepare.objects
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_a_crash_in_mid_write_left_is_mended(trained, toy_data, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    lines = (trained / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(lines[:-1]))  # behind the checkpoint
    (tmp_path / "run" / ".best.pt.0a1b2c3d.partial").write_bytes(b"half")
    train(small(), data=toy_data, directory=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "".join(lines)
    assert not list((tmp_path / "run").glob(".*"))


def test_a_run_is_reproduced_from_the_configuration_it_left(trained, toy_data, tmp_path):
    train(load_config(trained / "config.json"), data=toy_data, directory=tmp_path)
    assert history(tmp_path) == history(trained)


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
    assert left.startswith("1 ballast best.pt checkpoint.pt config.json events") and ".partial" not in left
    assert history(out) == history(trained)
    for name, value in weights(trained).items():
        assert torch.equal(value, weights(out)[name]), name

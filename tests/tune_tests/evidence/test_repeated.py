"""Repeated trainings: what they conclude from their folders alone, and real ones in Ray."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nmt.config import Config, load_config, to_dict, with_overrides
from nmt.errors import FailedError, UserError
from nmt.io.files import write_json
from nmt.training.history import Progress, read_metrics, write_metrics
from tests.paths import ROOT
from tune.evidence.repeated import (
    AGAIN,
    Repeated,
    Repetition,
    Run,
    Variant,
    check_all_ended,
    check_one_worker,
    in_ray,
    repeated_from_dict,
    with_seed,
)
from tune.spaces.read import load_space
from tune.spaces.settings import Resources


def repeated(name: str, accuracies: dict[int, float | None], test: float | None = None) -> Repeated:
    """The trainings of one variant, seed -> accuracy; None is a failed one."""
    return Repeated(
        name=name,
        runs=tuple(
            Run(
                seed=seed, directory=f"runs/{name}-s{seed}", accuracy=value, accuracy_fixed_decode=value, epoch=2,
                epochs=3, seconds=1.5, decode={"epsilon": 0.2}, reason="diverged" if value is None else None,
                test_accuracy=test,
            )
            for seed, value in accuracies.items()
        ),
    )  # fmt: skip


def finish(directory: Path, accuracies: Sequence[float]) -> None:
    """Leave the metrics of a training of so many epochs."""
    directory.mkdir(parents=True)
    history = [
        {"epoch": e, "val/accuracy": a, "val/accuracy_fixed_decode": a / 2, "seconds": 1.2345 * e, "decode/epsilon": e}
        for e, a in enumerate(accuracies, start=1)
    ]
    write_metrics(directory, Progress(epoch=len(history), history=history))


@pytest.fixture
def base(space_file: Path) -> Config:
    return load_space(space_file).base


@pytest.fixture
def repetition(tmp_path: Path, tiny_data: Path) -> Repetition:
    return Repetition(directory=tmp_path / "confirm", data=tiny_data, decode_grid=(), resources=Resources())


def test_a_difference_pairs_the_seeds_that_both_finished() -> None:
    reference = repeated("000", {1: 0.50, 2: 0.90, 3: 0.10, 4: None})
    better = repeated("007", {4: 0.99, 3: 0.12, 2: None, 1: 0.52})
    difference = better.above(reference)
    assert difference is not None and difference.count == 2
    assert difference.mean == pytest.approx(0.02)  # far from 0.54 - 0.5
    assert difference.low < 0 < difference.high, "equal differences of accuracies that vary by 40 points"
    assert repeated("008", {1: 0.6, 2: None}).above(reference) is None
    assert better.above(reference, of="test_accuracy") is None


def test_failed_trainings_are_named_and_count_in_no_mean() -> None:
    found = repeated("wide", {1: 0.4, 2: None, 3: 0.6})
    assert found.accuracy is not None and found.accuracy.mean == pytest.approx(0.5) and found.accuracy.count == 2
    assert found.failures == ["wide, seed 2 failed: diverged"]
    assert repeated("wide", {1: None}).accuracy is None and found.test_accuracy is None


def test_trainings_return_from_their_table_as_they_were() -> None:
    reference, found = repeated("000", {1: 0.5, 2: 0.6}), repeated("007", {1: 0.7, 2: 0.81}, test=0.4)
    content = json.loads(json.dumps(found.to_dict(reference)))
    assert repeated_from_dict(content) == found
    assert content["difference"]["count"] == 2 and content["accuracy"]["mean"] == pytest.approx(0.755)
    assert found.to_dict()["difference"] is None
    with pytest.raises(TypeError):
        repeated_from_dict(content | {"runs": [{"seed": 1}]})
    with pytest.raises(KeyError):
        repeated_from_dict({"name": "007"})


def test_finished_trainings_are_read_from_their_folders_without_ray(repetition: Repetition, base: Config) -> None:
    """The best of four epochs, its decoding and the accuracy of the test split that was read before."""
    variants = [
        Variant(name="full", slug="full", config=base),
        Variant(name="No spline", slug="no-spline", config=base),
    ]
    for variant in variants:
        for seed in (3, 4):
            finish(repetition.run_directory(variant, seed), [0.2, 0.8, 0.8, 0.1 * seed])
    write_json(repetition.directory / "runs/no-spline-s4/test.json", {"accuracy": 0.7})
    write_json(repetition.directory / "runs/no-spline-s3/test.json", {"accuracy": 0.6})
    full, other = repetition.train(variants, (3, 4))
    assert [r.directory for r in other.runs] == ["runs/no-spline-s3", "runs/no-spline-s4"]
    assert [r.seed for r in full.runs] == [3, 4] and full.name == "full"
    run = full.runs[1]
    assert (run.accuracy, run.accuracy_fixed_decode, run.epoch, run.epochs) == (0.8, 0.4, 2, 4)
    assert run.decode == {"epsilon": 2} and run.seconds == 4.94 and run.reason is None
    assert [r.test_accuracy for r in other.runs] == [None, None]
    assert [r.test_accuracy for r in repetition.read_test(other).runs] == [0.6, 0.7]


@pytest.mark.parametrize(("keep", "left"), [("best", {"best.pt"}), ("all", {"best.pt", "checkpoint.pt"})])
def test_a_finished_training_keeps_its_best_weights_alone(
    repetition: Repetition, base: Config, keep: str, left: set[str]
) -> None:
    variant = Variant(name="full", slug="full", config=base)
    directory = repetition.run_directory(variant, 3)
    finish(directory, [0.2, 0.8, 0.8, 0.1])
    for name in ("best.pt", "checkpoint.pt"):
        (directory / name).write_bytes(b"")
    replace(repetition, keep=keep).train([variant], [3])
    assert {path.name for path in directory.glob("*.pt")} == left


def test_a_folder_of_another_training_is_refused_before_anything_starts(repetition: Repetition, base: Config) -> None:
    variant = Variant(name="000", slug="000", config=base)
    other = with_seed(with_overrides(base, {"train.epochs": 9}, source="test"), 2)
    repetition.run_directory(variant, 2).mkdir(parents=True)
    path = repetition.run_directory(variant, 2) / "config.json"
    write_json(path, to_dict(other))
    repetition.check([variant], (1, 3))
    with pytest.raises(UserError, match=r"000-s2 holds another training \(train.epochs is 9 in it and 4 now\)"):
        repetition.check([variant], (1, 2))
    write_json(path, to_dict(with_seed(base, 2)))
    repetition.check([variant], (1, 2))


def test_trainings_on_another_data_set_are_refused_before_anything_starts(
    repetition: Repetition, base: Config, other_data: Path
) -> None:
    variant = Variant(name="000", slug="000", config=base)
    directory = repetition.run_directory(variant, 1)
    finish(directory, [0.1, 0.2, 0.3, 0.4])
    write_json(directory / "config.json", to_dict(with_seed(base, 1)))
    on_other = replace(repetition, data=other_data)
    on_other.check([variant], (1,))  # from before trainings knew their data set
    repetition.train([variant], (1,))
    assert json.loads((directory / "data_set.json").read_text())["identity"] == repetition.identity
    repetition.check([variant], (1,))
    with pytest.raises(
        UserError, match=rf"000-s1: trained on the data set {repetition.identity} .*but {other_data} is"
    ):
        on_other.check([variant], (1,))


def test_an_accuracy_on_the_test_split_counts_for_its_own_data_set_alone(
    repetition: Repetition, other_data: Path
) -> None:
    run, on_other = repetition.directory / "runs/a-s1", replace(repetition, data=other_data)
    write_json(run / "test.json", {"accuracy": 0.7, "data_set": repetition.identity})
    assert repetition._test(run) is not None and on_other._test(run) is None
    assert repetition.identity != on_other.identity


def test_missing_features_of_one_variant_are_found_before_anything_starts(repetition: Repetition, base: Config) -> None:
    known = Variant(name="a", slug="a", config=base)
    unknown = with_overrides(base, {"model.backbone": "resnet34"}, source="test")
    repetition.check([known], (0,))
    with pytest.raises(UserError, match="resnet34"):
        repetition.check([known, Variant(name="b", slug="b", config=unknown)], (0,))


def test_a_repeated_training_has_one_worker() -> None:
    check_one_worker(Resources(cpus=4, gpus=0.5), "tiny.toml")
    with pytest.raises(UserError, match=r"tiny.toml: \[resources\] workers = 3, but .* set workers = 1 there"):
        check_one_worker(Resources(workers=3), "tiny.toml")


@pytest.mark.slow
def test_a_diverging_variant_fails_alone_and_only_the_finished_read_the_test_split(
    repetition: Repetition, base: Config, caplog: pytest.LogCaptureFixture
) -> None:
    short = with_overrides(base, {"train.epochs": 1, "optim.lr": 1e-2}, source="test")
    # A temperature that no float32 can divide by.
    diverging = with_overrides(short, {"loss.temperature": 1e-40}, source="test")
    variants = [Variant(name="good", slug="good", config=short), Variant(name="bad", slug="bad", config=diverging)]
    with in_ray(repetition.directory):
        good, bad = repetition.train(variants, (1, 2))
        read = repetition.read_test(good)
        unread = repetition.read_test(bad)
        stamps = [p.stat().st_mtime_ns for p in sorted(repetition.directory.glob("runs/good-*/*.json*"))]
        assert repetition.train(variants[:1], (1, 2)) == [good] and repetition.read_test(good) == read
        assert [p.stat().st_mtime_ns for p in sorted(repetition.directory.glob("runs/good-*/*.json*"))] == stamps
    assert [(r.epochs, r.reason) for r in good.runs] == [(1, None)] * 2
    assert [load_config(repetition.directory / r.directory / "config.json").train.seed for r in good.runs] == [1, 2]
    assert good.runs[0].accuracy == read_metrics(repetition.directory / "runs/good-s1")[0]["val/accuracy"]
    assert all("the loss is no longer finite" in (r.reason or "") and r.accuracy is None for r in bad.runs)
    assert read.test_accuracy is not None and read.test_accuracy.count == 2 and unread == bad
    for run in read.runs:
        kept = json.loads((repetition.directory / run.directory / "test.json").read_text())
        assert kept["accuracy"] == run.test_accuracy and set(kept["per_category"]) == {"cup", "fish"}
        assert (repetition.directory / run.directory / "pairs-test.npz").is_file()
    said = [line for line in caplog.messages if "the test split of" in line]
    assert len(said) == 1 and f"{repetition.directory.parent.name}/good on 20" in said[0]
    assert any("bad  seed 1  failed: the loss is no longer finite" in line for line in caplog.messages)


@pytest.mark.slow
def test_an_unreadable_test_split_names_its_training(repetition: Repetition, base: Config) -> None:
    variant = Variant(name="full", slug="full", config=base)
    finish(repetition.run_directory(variant, 1), [0.1, 0.2, 0.3, 0.4])  # metrics, and no best.pt
    with in_ray(repetition.directory):
        (found,) = repetition.train([variant], (1,))
        with pytest.raises(UserError, match="runs/full-s1: the test split could not be read .*best.pt"):
            repetition.read_test(found)
        longer = replace(variant, config=with_overrides(base, {"train.epochs": 5}, source="test"))
        (late,) = replace(repetition, data=repetition.directory / "absent").train([longer], (2,))
        assert "absent/objects.arrow: not there" in (late.runs[0].reason or "") and late.runs[0].again


INTERRUPTED = """
import sys, time
from pathlib import Path
from tune.evidence.repeated import in_ray
try:
    with in_ray(Path(sys.argv[1])):
        print("within", flush=True)
        time.sleep(120)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_a_directory_is_locked_within_ray_and_a_sigterm_interrupts_as_ctrl_c(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == "within\n"
    with pytest.raises(UserError, match=str(tmp_path)), in_ray(tmp_path):
        pass
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert out == "interrupted\n" and running.returncode == 0


def test_trainings_that_another_call_trains_again_are_named_and_diverged_ones_are_not() -> None:
    def failed(reason: str, again: bool) -> Repeated:
        whole = repeated("wide", {1: 0.5, 2: None, 3: None})
        return replace(
            whole, runs=tuple(r if r.accuracy else replace(r, reason=reason, again=again) for r in whole.runs)
        )

    check_all_ended([repeated("full", {1: 0.5}), failed("diverged", False)], again="")
    told = (
        r"^2 of 4 trainings failed \(wide, seed 2; wide, seed 3\), the first by: disk full; the same command continues$"
    )
    with pytest.raises(FailedError, match=told):
        check_all_ended([repeated("full", {1: 0.5}), failed("disk full", True)], again=AGAIN)
    assert repeated_from_dict(json.loads(json.dumps(failed("x", True).to_dict()))).runs[1].again


def kill_trainings(count: int, over: threading.Event) -> None:
    """Kill so many processes that train, each once."""
    killed: set[int] = set()
    while len(killed) < count and not over.wait(0.05):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.pid not in killed and "ray::train_to_end" in process.cmdline():
                    process.kill()
                    killed.add(process.pid)


@pytest.mark.slow
def test_a_training_killed_twice_fails_alone_and_the_next_call_trains_it(repetition: Repetition, base: Config) -> None:
    """SIGKILL, as the kernel does when the host has no memory left."""
    variant = Variant(name="a", slug="a", config=with_overrides(base, {"train.steps_per_epoch": 100}, source="test"))
    with in_ray(repetition.directory):
        over = threading.Event()
        killer = threading.Thread(target=kill_trainings, args=(2, over))
        killer.start()
        (found,) = repetition.train([variant], (1,))
        over.set()
        killer.join()
        told = "its process died twice (killed, out of memory, or crashed)"
        assert found.failures == [f"a, seed 1 failed: {told}"] and found.runs[0].again
        (found,) = repetition.train([variant], (1, 2))
    assert not found.failures and [r.epochs for r in found.runs] == [4, 4]

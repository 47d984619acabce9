"""Searches on which a seed brings every fault that it can, one after the other: they end as if there had been none."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import tune
from nmt.config import load_config, to_flat
from nmt.training.history import read_metrics
from tests.paths import ROOT
from tune.results.summary import load_summary

EPOCHS = 5
DISK = 48 << 20
"""bytes of the small disk that holds the results"""
RUNS_WITHOUT_AN_EPOCH = 4
"""a search that has been started so often in a row without an epoch makes no progress"""
COST_AN_EPOCH = ("a checkpoint", "the disk")
"""faults after which an epoch may have to be trained again; after all others, no completed epoch is"""


class Disturbed:
    """A search as its user runs it, which is resumed whenever it ends early, and the faults that it meets.

    Args:
        space: file of the search.
        results: where it works.
        seed: chooses the faults' order, moments and victims.
        epoch_seconds: how long an epoch takes without faults.
    """

    def __init__(self, space: Path, data: Path, results: Path, *, seed: int = 0, epoch_seconds: float = 0.0) -> None:
        self.directory, self.results, self.chance = results / "tiny", results, random.Random(seed)
        self.log = results.with_suffix(".log")
        self._command = [sys.executable, "run.py", "--search", str(space), "--data", str(data)]
        self._command += ["--results", str(results)]
        self._below: dict[int, psutil.Process] = {}
        self._fruitless, self._epoch_seconds = 0, epoch_seconds
        self.start()

    def start(self, *more: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        with self.log.open("a") as log:
            self._driver = subprocess.Popen(
                [*self._command, *more], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    # --- how far it is ---

    def epochs(self) -> int:
        """Completed, of all trials. A damaged line counts too: it is there."""
        found = 0
        for path in self.directory.glob("trials/*/metrics.jsonl"):
            with contextlib.suppress(OSError):
                found += path.read_bytes().count(b"\n")
        return found

    def advance(self, epochs: int) -> bool:
        """Wait for so many more epochs; False if the search has finished before. Resumes it where it has ended."""
        goal, deadline = self.epochs() + epochs, time.monotonic() + 400
        while self.epochs() < goal:
            assert time.monotonic() < deadline, self.log.read_text()
            if self._driver.poll() is not None and not self.resume(goal):
                return False
            time.sleep(0.05)
        self._fruitless = 0
        return True

    def resume(self, goal: int = 0) -> bool:
        """Continue the search, whose process has ended; False if it has finished."""
        if self._driver.returncode == 0:
            return False
        self._fruitless += 1
        assert self._fruitless < RUNS_WITHOUT_AN_EPOCH, self.log.read_text()
        self.start(*(["--resume"] if (self.directory / "search.json").is_file() else []))
        return True

    def finish(self) -> None:
        while self._driver.wait(timeout=600) != 0:
            self.resume()

    def close(self) -> None:
        """Leave no process, whatever happened."""
        self.trial_processes()
        self._driver.kill()
        for process in self._below.values():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def meet(self, fault: str) -> bool:
        """Bring the fault, some epochs from now; False if the search has finished before."""
        if not self.advance(self.chance.randrange(1, 4)):
            return False
        time.sleep(self.chance.uniform(0, self._epoch_seconds))
        with self.log.open("a") as log:
            log.write(f"--- after {self.epochs()} epochs: {fault}\n")
        FAULTS[fault](self)
        return True

    # --- what can be done to it ---

    def trial_processes(self) -> list[psutil.Process]:
        """The busy and idle processes of trials."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._driver.pid).children(recursive=True):
                self._below[process.pid] = process
        found = []
        for process in self._below.values():
            with contextlib.suppress(psutil.Error, IndexError):
                if process.status() != psutil.STATUS_ZOMBIE and "ray::ImplicitFunc" in process.cmdline()[0]:
                    found.append(process)
        return found

    def running(self) -> list[Path]:
        """Folders of the trials that have begun and are not at their end."""
        folders = [path.parent for path in self.directory.glob("trials/*/checkpoint.pt")]
        return [folder for folder in sorted(folders) if lines(folder) < EPOCHS]

    def kill_a_trial(self) -> None:
        if found := self.trial_processes():
            self.chance.choice(found).kill()

    def freeze_a_trial(self) -> None:
        for process in self.trial_processes()[:1]:
            with contextlib.suppress(psutil.Error):
                process.suspend()
                time.sleep(self.chance.uniform(1, 2))
                process.resume()

    def kill_the_driver(self) -> None:
        self.trial_processes()
        self._driver.kill()
        self._driver.wait()

    def interrupt_the_driver(self) -> None:
        self._driver.send_signal(self.chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
        self._driver.wait(timeout=200)

    def damage_a_checkpoint(self) -> None:
        self.while_nobody_writes(lambda folder: damage(folder / "checkpoint.pt", self.chance))

    def overwrite_metrics(self) -> None:
        self.while_nobody_writes(lambda folder: (folder / "metrics.jsonl").write_bytes(b"\0" * 200 + b"\n"))

    def lose_a_configuration(self) -> None:
        self.while_nobody_writes(lambda folder: (folder / "config.json").unlink(missing_ok=True))

    def while_nobody_writes(self, act: Callable[[Path], object]) -> None:
        """Do something to the folder of a trial that trains. Its process stands still and is then killed."""
        stopped = self.trial_processes()
        for process in stopped:
            with contextlib.suppress(psutil.Error):
                process.suspend()
        if folders := self.running():
            act(self.chance.choice(folders))
        for process in stopped:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def damage_the_study(self) -> None:
        """Between two runs."""
        self.kill_the_driver()
        damage(self.directory / "study.db", self.chance)

    def damage_the_study_in_use(self) -> None:
        (self.directory / "study.db").write_bytes(b"garbage " * 999)

    def hold_the_study(self) -> None:
        with contextlib.closing(
            sqlite3.connect(self.directory / "study.db", timeout=60, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(self.chance.uniform(4, 9))
            other.rollback()

    def cut_metrics(self) -> None:
        if folders := self.running():
            path = self.chance.choice(folders) / "metrics.jsonl"
            os.truncate(path, self.chance.randrange(path.stat().st_size))

    def overwrite_metrics_of_an_ended_trial(self) -> None:
        ended = [path.parent for path in self.directory.glob("trials/*/metrics.jsonl") if lines(path.parent) == EPOCHS]
        if ended:
            (self.chance.choice(sorted(ended)) / "metrics.jsonl").write_bytes(b"\0" * 200 + b"\n")

    def damage_the_summary(self) -> None:
        (self.directory / "summary.json").write_text('{"trials": [')

    def fill_the_disk(self) -> None:
        filler = self.results / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        time.sleep(self.chance.uniform(2, 5))
        filler.unlink()


FAULTS: dict[str, Callable[[Disturbed], None]] = {
    "a trial's process is killed": Disturbed.kill_a_trial,
    "a trial's process stands still": Disturbed.freeze_a_trial,
    "the driver is killed": Disturbed.kill_the_driver,
    "the driver gets a signal": Disturbed.interrupt_the_driver,
    "a checkpoint": Disturbed.damage_a_checkpoint,
    "the study": Disturbed.damage_the_study,
    "the study in use": Disturbed.damage_the_study_in_use,
    "the study is held": Disturbed.hold_the_study,
    "metrics are cut": Disturbed.cut_metrics,
    "metrics": Disturbed.overwrite_metrics,
    "metrics of an ended trial": Disturbed.overwrite_metrics_of_an_ended_trial,
    "the summary": Disturbed.damage_the_summary,
    "a configuration": Disturbed.lose_a_configuration,
    "the disk": Disturbed.fill_the_disk,
}


def lines(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


def damage(path: Path, chance: random.Random) -> None:
    """Cut, empty, overwrite or remove a file, or change one byte of it."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(["cut", "empty", "zeros", "lost"] + ["byte"] * (path.suffix == ".pt"))
    if kind == "byte":
        content[chance.randrange(len(content))] ^= 0xFF
    changed = {"cut": content[: len(content) // 2], "empty": b"", "zeros": bytes(len(content)), "byte": content}
    path.unlink() if kind == "lost" else path.write_bytes(changed[kind])


def table(directory: Path) -> list[tuple[Any, ...]]:
    """What the user is told, without times, and the losses of each epoch, which tell any two configurations apart."""
    return [
        (t.id, t.state, t.epochs, t.searched, t.accuracy, [m["train/loss"] for m in read_metrics(trial)])
        for t in load_summary(directory).trials
        for trial in [directory / "trials" / t.id]
    ]


def check_nothing_is_mixed_up(directory: Path) -> None:
    """Study, summary and folders say the same of every trial."""
    study, summary = tune.open_study(directory), load_summary(directory)
    assert summary.finished and not (directory / "set_aside").exists()
    assert {trial.state for trial in summary.trials} <= {"COMPLETE", "PRUNED"}
    assert sorted(path.name for path in directory.glob("trials/*")) == [t.id for t in summary.trials]
    for trial, record in zip(study.trials, summary.trials, strict=True):
        folder = directory / "trials" / record.id
        flat, history = to_flat(load_config(folder / "config.json")), read_metrics(folder)
        assert {key: flat[key] for key in record.searched} == record.searched == trial.params
        assert trial.intermediate_values == {m["epoch"]: m["val/accuracy"] for m in history}
        assert [m["epoch"] for m in history] == list(range(1, record.epochs + 1))
        assert trial.state.name == record.state and record.accuracy == max(trial.intermediate_values.values())


def trained_again(directory: Path) -> collections.Counter[str]:
    """Trial -> epochs that were completed more than once, as its processes logged them to TensorBoard."""
    counts: collections.Counter[tuple[str, int]] = collections.Counter()
    for path in directory.glob("trials/*/events.out.tfevents.*"):
        for event in EventFileLoader(str(path)).Load():
            counts[path.parent.name, event.step] += any(v.tag == "while_training/loss" for v in event.summary.value)
    again: collections.Counter[str] = collections.Counter()
    for (trial, _), count in counts.items():
        again[trial] += max(count - 1, 0)
    return again


def written(space_file: Path, *, trials: int, one_at_a_time: bool) -> Path:
    cores = os.cpu_count() or 1
    order = 'sampler = "tpe"\nscheduler = "asha"' if one_at_a_time else 'sampler = "random"\nscheduler = "fifo"'
    text = space_file.read_text().replace("trials = 5", f"trials = {trials}\n{order}")
    text = text.replace("[search]", f"[resources]\ncpus = {cores if one_at_a_time else max(cores // 2, 1)}\n[search]")
    text = text.replace("epochs = 4, steps_per_epoch = 4", f"epochs = {EPOCHS}, steps_per_epoch = 60")
    space_file.write_text(text)
    return space_file


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder for the results: on a disk of its own where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    may_mount = os.geteuid() == 0
    if may_mount:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)], check=True)
    yield disk
    if may_mount:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    ("seed", "trials", "count", "one_at_a_time"),
    [
        # Two at once finish in any order, so only what no decision rests on is the same in every run.
        pytest.param(39, 6, 6, False, id="two at once, short", marks=pytest.mark.long),
        pytest.param(1, 12, len(FAULTS), False, id="two at once", marks=pytest.mark.long),
        pytest.param(2, 12, len(FAULTS), False, id="two at once, again", marks=pytest.mark.long),
        pytest.param(3, 16, len(FAULTS), True, id="one, asha", marks=pytest.mark.long),
    ],
)
def test_a_search_that_meets_every_fault_ends_as_if_it_had_met_none(
    space_file: Path, tiny_data: Path, small_disk: Path, tmp_path: Path, seed: int, trials: int, count: int,
    one_at_a_time: bool, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    space = written(space_file, trials=trials, one_at_a_time=one_at_a_time)
    with contextlib.closing(Disturbed(space, tiny_data, tmp_path / "whole")) as whole:
        whole.finish()
    seconds = max(t.seconds / t.epochs for t in load_summary(whole.directory).trials)
    with contextlib.closing(Disturbed(space, tiny_data, small_disk, seed=seed, epoch_seconds=seconds)) as search:
        faults = search.chance.sample(list(FAULTS), count)
        # A trial that is interrupted twice waits, and the next are drawn without it: not where decisions must replay.
        if one_at_a_time or not small_disk.is_mount():
            faults = [fault for fault in faults if fault != "the disk"]
        met = [fault for fault in faults if search.meet(fault)]
        search.finish()
    told = search.log.read_text()
    assert len(met) > len(faults) // 2, met
    assert "Traceback" not in told, told
    assert table(search.directory) == table(whole.directory), told
    check_nothing_is_mixed_up(search.directory)
    again = trained_again(search.directory)
    assert max(again.values()) <= sum(fault in COST_AN_EPOCH for fault in met), told
    with capsys.disabled():
        print(f"\n| {seed} | {len(met)} | {sum(again.values())} of {search.epochs()} |", end="")

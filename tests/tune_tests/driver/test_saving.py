"""What is written soon, though not at each event, and what is written at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nmt.data.store.ready import ReadyData
from nmt.errors import UserError
from tests.tune_tests.driver.test_summarize import train
from tune.driver import saving as module
from tune.driver.lines import Lines
from tune.driver.saving import Saving, Throttle
from tune.driver.trial_folders import TrialFolders
from tune.results.storage import Storage
from tune.results.summary import load_summary
from tune.spaces.read import load_space
from tune.study.study import SearchStudy


class Clock:
    """The time of `time.monotonic` in the module."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_burst_is_one_call_at_once_and_one_at_the_end(clock: Clock) -> None:
    calls = list[float]()
    throttle = Throttle(lambda: calls.append(clock.now))
    for second in range(40):
        clock.now = 5.0 + second
        if second < 15:
            throttle.ask()
        throttle.poll()
    assert calls == [5.0, 15.0, 25.0]  # the last for what was asked after 15


def test_nothing_is_written_that_nobody_asked_for(clock: Clock) -> None:
    calls = list[float]()
    throttle = Throttle(lambda: calls.append(clock.now))
    throttle.poll()
    throttle.now()
    throttle.now()
    clock.now += 100
    throttle.poll()
    assert calls == [5.0, 5.0]


def test_a_call_that_fails_is_not_taken_for_made(clock: Clock) -> None:
    def fail() -> None:
        raise UserError("the disk is full")

    throttle = Throttle(fail)
    for _ in range(2):
        with pytest.raises(UserError):
            throttle.ask()


class Made:
    """A search without trials, and its files."""

    def __init__(self, space_file: Path, directory: Path, home: Storage | None = None) -> None:
        self.directory, self.study = directory, SearchStudy(directory / "study.db", load_space(space_file))
        data = ReadyData("data/tiny", "/data/tiny", directory, "", has_test=False)
        self.saving = Saving(self.study, TrialFolders(directory, home), data=data, lines=Lines(4, earlier_seconds=0.0))

    def pause(self) -> None:
        """Bring another trial to its rung."""
        self.study.end_job(train(self.study, self.directory, 4 if not self.study.trials() else 1))

    def shown(self) -> int:
        return len(load_summary(self.directory).trials)


def test_the_summary_is_at_most_so_old_and_the_last_one_is_exact(
    clock: Clock, space_file: Path, tmp_path: Path
) -> None:
    made = Made(space_file, tmp_path)
    for second, shown in ((0, 1), (3, 1), (9, 1), (10, 4), (11, 4)):
        clock.now = 5.0 + second
        made.pause()
        made.saving.save_soon()
        assert made.shown() == shown and len(made.saving.summary().trials) == len(made.study.trials())
    made.saving.save(finished=True)
    assert made.shown() == 5 and load_summary(tmp_path).finished


def test_the_summary_that_is_returned_is_the_one_written(
    monkeypatch: pytest.MonkeyPatch, space_file: Path, tmp_path: Path
) -> None:
    made = Made(space_file, tmp_path)
    ticks = itertools.count(5.0, 0.7)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(ticks))  # any work takes its time
    made.pause()
    assert made.saving.save(finished=True) == load_summary(tmp_path)


def test_what_was_put_off_reaches_the_storage_too(clock: Clock, space_file: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    made = Made(space_file, here, Storage(str(tmp_path / "home"), here))

    def there() -> tuple[int, int]:
        Storage(str(tmp_path / "home"), tmp_path / "other").fetch()
        study = SearchStudy(tmp_path / "other/study.db", load_space(space_file))
        return len(study.trials()), len(load_summary(tmp_path / "other").trials)

    made.pause()
    made.saving.save_soon()
    made.pause()
    made.saving.copy_soon()
    assert there() == (1, 1)
    clock.now += 10
    made.saving.poll()
    assert there() == (2, 1)  # no trial has ended, so the table is as it was

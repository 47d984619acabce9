"""Trials whose folder is at a storage: what travels, and what is damaged there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nmt import checkpoint
from nmt.config import Config, with_overrides
from nmt.errors import TemporaryError
from nmt.training.history import read_metrics
from nmt.training.loop import train
from tune.jobs.stored import take_over
from tune.jobs.uploads import Uploads
from tune.results.storage import Storage
from tune.spaces.read import load_space

FOLDER = "trials/003"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def epoch(path: Path) -> int:
    assert checkpoint.verify(path)
    return int(checkpoint.load(path)["progress"]["epoch"])


@pytest.fixture
def here(space_file: Path, tiny_data: Path, tmp_path: Path) -> Storage:
    """A trial of two epochs, here and at the storage."""
    storage = Storage(str(tmp_path / "home"), tmp_path / "here")
    train(load_space(space_file).base, data=tiny_data, directory=storage.directory / FOLDER, until=2)
    Uploads(storage).put(FOLDER)
    return storage


def test_a_trial_travels_with_all_its_checkpoints_and_a_damaged_copy_is_fetched_again(
    here: Storage, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    flip(here.directory / FOLDER / "checkpoint.pt")
    there = Storage(here.address, tmp_path / "there")
    for place in (here, there):
        take_over(place, FOLDER, load_space(space_file).base)
        folder = place.directory / FOLDER
        assert (epoch(folder / "checkpoint.pt"), epoch(folder / "checkpoint.previous.pt")) == (2, 1)
        assert checkpoint.verify(folder / "best.pt")
    flip(folder / "checkpoint.pt")
    train(load_space(space_file).base, data=tiny_data, directory=folder, until=3, resume=True)
    Uploads(there).put(FOLDER)
    take_over(here, FOLDER, load_space(space_file).base)
    assert epoch(here.directory / FOLDER / "checkpoint.pt") == 3
    assert [m["epoch"] for m in read_metrics(here.directory / FOLDER)] == [1, 2, 3]


@pytest.mark.parametrize(("lost", "first"), [(True, True), (False, True), (False, False)])
def test_a_checkpoint_damaged_at_the_storage_is_replaced_by_the_one_before(
    here: Storage, space_file: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: bool,
    first: bool,
) -> None:  # fmt: skip
    (stored,) = (tmp_path / "home" / FOLDER).glob("checkpoint.????????????.pt")
    stored.unlink() if lost else flip(stored)
    there = Storage(here.address, tmp_path / "there")
    with caplog.at_level(logging.WARNING):
        take_over(there, FOLDER, load_space(space_file).base, first=first)
    assert caplog.messages == [f"{there.directory / FOLDER}: checkpoint.pt is damaged at the storage"]
    folder = there.directory / FOLDER
    assert not (folder / "checkpoint.pt").exists() and epoch(folder / "checkpoint.previous.pt") == 1
    train(load_space(space_file).base, data=tiny_data, directory=folder, until=3, resume=True)
    Uploads(there).put(FOLDER)
    take_over(here, FOLDER, load_space(space_file).base)
    assert epoch(here.directory / FOLDER / "checkpoint.pt") == 3
    assert [m["epoch"] for m in read_metrics(here.directory / FOLDER)] == [1, 2, 3]


def test_a_storage_that_fails_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.io.location.FIRST_PAUSE", 0.0)
    (tmp_path / "file").write_text("not a folder")
    storage = Storage(str(tmp_path / "file/below"), tmp_path / "here")
    (tmp_path / "here" / FOLDER).mkdir(parents=True)
    (tmp_path / "here" / FOLDER / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(TemporaryError):
        Uploads(storage).put(FOLDER)
    Uploads(None).put(FOLDER)
    take_over(None, FOLDER, Config())


def test_what_an_earlier_search_has_left_on_a_node_is_no_part_of_a_trial(
    here: Storage, space_file: Path, tmp_path: Path
) -> None:
    config = load_space(space_file).base
    folder = here.directory / FOLDER
    take_over(Storage(str(tmp_path / "empty"), here.directory), FOLDER, config)  # not uploaded yet, but its own
    assert len(read_metrics(folder)) == 2
    other = with_overrides(config, {"optim.lr": 0.5}, source="test")
    take_over(Storage(str(tmp_path / "empty"), here.directory), FOLDER, other)
    assert not list(folder.iterdir())
    take_over(here, FOLDER, config)
    assert len(read_metrics(folder)) == 2

"""The folders of trials: their metrics here and at the storage, and what TensorBoard reads in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from nmt.config import to_dict, with_overrides
from nmt.errors import UserError
from nmt.io.files import write_json
from tune.driver.trial_folders import TrialFolders
from tune.results.storage import Storage
from tune.spaces.read import load_space


def write_metrics(folder: Path, epochs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"epoch": epoch, "val/accuracy": epoch / 10}) for epoch in range(1, epochs + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def epochs(folders: TrialFolders, number: int) -> list[int]:
    return [metrics["epoch"] for metrics in folders.history(number)]


def hparams(folder: Path, tag: str) -> plugin_data_pb2.HParamsPluginData:
    """The message that TensorBoard's HParams tab finds under a tag."""
    events = EventAccumulator(str(folder)).Reload()
    return plugin_data_pb2.HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)


def test_best_weights_count_where_the_trial_lives(tmp_path: Path) -> None:
    home = Storage(str(tmp_path / "home"), tmp_path / "here")
    folder = tmp_path / "here/trials/007"
    write_metrics(folder, 1)
    (folder / "best.pt").write_bytes(b"weights")
    there = TrialFolders(tmp_path / "here", home)
    assert TrialFolders(tmp_path / "here", None).has_best(7) and not there.has_best(7)
    home.put("trials/007")
    assert there.has_best(7) and not there.has_best(8)


def test_tensorboard_finds_the_values_of_a_trial_from_its_start(tmp_path: Path) -> None:
    folders = TrialFolders(tmp_path, None)
    folders.write_start(7, {"optim.lr": 0.25, "loss.layer_weighting": "flat"})
    start = hparams(tmp_path / "trials/007", metadata.SESSION_START_INFO_TAG).session_start_info
    assert start.hparams["optim.lr"].number_value == 0.25
    assert start.hparams["loss.layer_weighting"].string_value == "flat"


@pytest.mark.parametrize(("success", "status"), [(True, api_pb2.STATUS_SUCCESS), (False, api_pb2.STATUS_FAILURE)])
def test_tensorboard_finds_the_end_of_a_trial_and_its_best_value(tmp_path: Path, success: bool, status: int) -> None:
    folders = TrialFolders(tmp_path, None)
    folders.write_start(0, {})
    folders.write_end(0, success=success, best={"epoch": 3, "val/accuracy": 0.75})
    folder = tmp_path / "trials/000"
    assert hparams(folder, metadata.SESSION_END_INFO_TAG).session_end_info.status == status
    (best,) = EventAccumulator(str(folder)).Reload().Scalars("val/accuracy_best")
    assert (best.step, best.value) == (3, 0.75)


def test_a_trial_without_an_epoch_ends_without_a_best_value(tmp_path: Path) -> None:
    folders = TrialFolders(tmp_path, None)
    folders.write_start(0, {})
    folders.write_end(0, success=False, best={})
    assert EventAccumulator(str(tmp_path / "trials/000")).Reload().Tags()["scalars"] == []


def test_metrics_at_the_storage_are_read_into_a_mirror(tmp_path: Path) -> None:
    there = Storage(str(tmp_path / "home"), tmp_path / "other_node")
    write_metrics(tmp_path / "other_node/trials/002", 2)
    (tmp_path / "other_node/trials/002/checkpoint.pt").write_bytes(b"weights")
    there.put("trials/002")
    folders = TrialFolders(tmp_path / "here", Storage(str(tmp_path / "home"), tmp_path / "here"))
    assert epochs(folders, 2) == [1, 2] and not folders.of(2).exists()
    assert not list((tmp_path / "here").rglob("*.pt"))
    write_metrics(folders.of(2), 3)  # a process here is ahead of the storage
    assert epochs(folders, 2) == [1, 2] and len((folders.of(2) / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_folder_is_fetched_from_the_storage_without_weights(tmp_path: Path) -> None:
    there = Storage(str(tmp_path / "home"), tmp_path / "other_node")
    write_metrics(tmp_path / "other_node/trials/002", 2)
    (tmp_path / "other_node/trials/002/best.pt").write_bytes(b"weights")
    there.put("trials/002")
    folders = TrialFolders(tmp_path / "here", Storage(str(tmp_path / "home"), tmp_path / "here"))
    folders.fetch(2)
    assert (folders.of(2) / "metrics.jsonl").is_file() and not (folders.of(2) / "best.pt").exists()


def test_events_of_start_and_end_reach_the_storage(tmp_path: Path) -> None:
    folders = TrialFolders(tmp_path / "here", Storage(str(tmp_path / "home"), tmp_path / "here"))
    folders.write_start(1, {"optim.lr": 0.5})
    write_metrics(folders.of(1), 1)
    folders.write_end(1, success=True, best={"epoch": 1, "val/accuracy": 0.5})
    at_storage = tmp_path / "home/trials/001"
    start = hparams(at_storage, metadata.SESSION_START_INFO_TAG).session_start_info
    assert start.hparams["optim.lr"].number_value == 0.5
    assert hparams(at_storage, metadata.SESSION_END_INFO_TAG).session_end_info.status == api_pb2.STATUS_SUCCESS
    assert not list(at_storage.glob("metrics*"))  # its own process uploads them


def test_a_damaged_storage_is_remembered_as_the_error_that_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmt.io.location.FIRST_PAUSE", 0.001)
    (tmp_path / "home/trials/000").mkdir(parents=True)
    (tmp_path / "home/trials/000/state.json").write_text("[]")
    folders = TrialFolders(tmp_path / "here", Storage(str(tmp_path / "home"), tmp_path / "here"))
    with pytest.raises(UserError, match=r"trials/000/state.json: not the state of a run") as caught:
        folders.history(0)
    assert folders.error is caught.value


def test_an_error_is_kept_before_the_trial_has_a_folder(tmp_path: Path) -> None:
    TrialFolders(tmp_path, None).write_error(12, "Traceback: out of memory")
    assert (tmp_path / "trials/012/error.txt").read_text() == "Traceback: out of memory"


def test_a_folder_of_another_configuration_at_the_storage_is_not_taken_for_a_new_trial(
    space_file: Path, tmp_path: Path
) -> None:
    """Of a search that was removed in part, or a trial that a restored study could not take."""
    config = load_space(space_file).base
    other = with_overrides(config, {"optim.lr": 0.5}, source="test")
    home = Storage(str(tmp_path / "home"), tmp_path / "here")
    for number, left in ((0, config), (1, other)):
        write_metrics(tmp_path / f"node/trials/00{number}", 1)
        write_json(tmp_path / f"node/trials/00{number}/config.json", to_dict(left))
        Storage(home.address, tmp_path / "node").put(f"trials/00{number}")
    folders = TrialFolders(tmp_path / "here", home)
    folders.claim(0, config)
    with pytest.raises(
        UserError, match=f"another configuration: optim.lr.* move {home.address}/trials/001 away"
    ) as caught:
        folders.claim(1, config)
    assert folders.error is caught.value and "\n" not in str(caught.value)
    folders.claim(2, config)
    assert (tmp_path / "here/trials/002/config.json").is_file()

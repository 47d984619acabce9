"""Readings of the test split: counted, shown, and never lost or in the way."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

from nmt.data.store.manifest import data_files
from nmt.data.store.readings import READINGS_FILE, add_reading, read_readings
from nmt.data.store.verify import check


def test_each_reading_is_counted_and_equal_weights_are_one_result(tmp_path: Path) -> None:
    first = add_reading(tmp_path, "demo/007", ["b", "a"])
    assert first.startswith(f"the test split of {tmp_path} has been read once: demo/007 on 2")
    add_reading(tmp_path, "birds-train", ["c"])
    third = add_reading(tmp_path, "renamed/007", ["a", "b"])
    found = read_readings(tmp_path)
    assert [reading.result for reading in found] == ["demo/007", "birds-train", "renamed/007"]
    day = found[0].date
    assert third.endswith(
        f"read 3 times: birds-train on {day}; demo/007 = renamed/007 on {day} (2 times) (the same weights)"
    )


def test_the_sentence_names_the_latest_and_where_the_others_are(tmp_path: Path) -> None:
    for number in range(8):
        said = add_reading(tmp_path, f"demo/{number:03d}", [str(number)])
    assert "read 8 times: demo/003 on" in said and "demo/007 on" in said
    assert said.endswith(f"; 3 more in {tmp_path / READINGS_FILE}")


def test_a_line_that_was_cut_off_is_counted_and_the_next_is_whole(tmp_path: Path) -> None:
    add_reading(tmp_path, "demo/001", ["a"])
    path = tmp_path / READINGS_FILE
    path.write_bytes(path.read_bytes() + b'{"result": "demo/002", "da')
    said = add_reading(tmp_path, "demo/003", ["c"])
    assert "3 times" in said and "a damaged line" in said
    assert json.loads(path.read_text().splitlines()[-1])["result"] == "demo/003"


def test_readings_at_the_same_time_are_all_counted(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_read_often, args=(tmp_path, name)) for name in ("one", "two", "three")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert len(read_readings(tmp_path)) == 60 and [path.name for path in tmp_path.iterdir()] == [READINGS_FILE]


def _read_often(data: Path, name: str) -> None:
    for number in range(20):
        add_reading(data, name, [f"{name}{number}"])


def test_a_place_that_cannot_hold_the_file_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / READINGS_FILE).mkdir()
    said, warning = add_reading(tmp_path, "demo/001", ["a"]).splitlines()
    assert "read once: demo/001" in said
    assert warning.startswith(f"warning: {tmp_path / READINGS_FILE}: this reading could not be noted (")
    gone, warning = add_reading(tmp_path / "absent", "demo/001", ["a"]).splitlines()
    assert "read once" in gone and "could not be noted" in warning


def test_readings_are_no_part_of_the_data_set(toy_store) -> None:
    before = data_files(toy_store.directory), check(toy_store.directory).info.identity
    add_reading(toy_store.directory, "demo/001", ["a"])
    try:
        assert (data_files(toy_store.directory), check(toy_store.directory).info.identity) == before
    finally:
        (toy_store.directory / READINGS_FILE).unlink()

"""Which search a folder holds, and whether it may be resumed."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from nmt.data.store.ready import ReadyData
from nmt.errors import UserError
from tune.driver.identity import (
    check_data_set,
    check_limits_kept,
    check_results,
    say_changed,
    say_nothing_to_resume,
    write_definition,
)
from tune.driver.search import find_home, run_search
from tune.spaces.read import load_space
from tune.spaces.settings import SearchSettings

DATA = ReadyData("data/tiny", "/data/tiny", Path("/data/tiny"), "0123456789ab", has_test=True)


def test_the_budget_is_remembered_and_may_change(space_file: Path, tmp_path: Path) -> None:
    space, directory = load_space(space_file), tmp_path / "tiny"
    directory.mkdir()
    write_definition(space.with_budget(trials=9, seed=None), directory, DATA)
    assert check_results(space, directory, resume=True).search.trials == 9
    assert check_results(space, directory, resume=True, trials=12).search.trials == 12
    with pytest.raises(UserError, match=r"\[search\] seed is 0 in it and 8 now"):
        check_results(space, directory, resume=True, seed=8)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"search": {"trials": 1}}'])
def test_a_damaged_definition_is_one_line(space_file: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/search.json").write_text(content)
    with pytest.raises(UserError, match="search.json: not the definition of a search") as caught:
        check_results(load_space(space_file), tmp_path / "results", resume=True)
    assert "\n" not in str(caught.value)


def test_a_search_goes_on_with_its_own_data_set_alone(space_file: Path, tmp_path: Path) -> None:
    check_data_set(tmp_path, DATA)  # a new search
    write_definition(load_space(space_file), tmp_path, DATA)
    check_data_set(tmp_path, dataclasses.replace(DATA, given="/elsewhere/tiny"))  # the same, moved
    other = dataclasses.replace(DATA, identity="ba9876543210")
    told = r"trained on the data set 0123456789ab \(then in data/tiny\), but data/tiny is the data set ba9876543210"
    with pytest.raises(UserError, match=told) as caught:
        check_data_set(tmp_path, other)
    assert "\n" not in str(caught.value) and "--data" in str(caught.value)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["no storage", "another storage"])
def test_a_search_that_lives_at_a_storage_is_resumed_there_alone(
    space_file: Path, tmp_path: Path, elsewhere: bool
) -> None:
    """Its weights are not here: paused trials would train again from the start."""
    directory, other = tmp_path / "results/tiny", str(tmp_path / "other") if elsewhere else None
    home = find_home(str(tmp_path / "nfs"), directory, resume=True)  # a new one
    assert home is not None
    write_definition(load_space(space_file), directory, DATA, home=home.address)
    home.put()
    assert find_home(str(tmp_path / "nfs"), directory, resume=True) == home
    with pytest.raises(UserError) as caught:
        find_home(other, directory, resume=True)
    told = str(caught.value)
    assert told.startswith(f"{directory}: this search lives at {tmp_path}/nfs/tiny, ") and "\n" not in told
    assert f"give --storage {tmp_path}/nfs, " in told
    write_definition(load_space(space_file), directory, DATA)  # one that lives here may move to a storage
    moved = find_home(other, directory, resume=True)
    assert moved is None if other is None else moved is not None and moved.address == f"{other}/tiny"


def test_a_search_from_before_it_knew_its_data_set_is_accepted(space_file: Path, tmp_path: Path) -> None:
    space = load_space(space_file)
    write_definition(space, tmp_path, DATA)
    definition = json.loads((tmp_path / "search.json").read_text())
    del definition["data_set"]
    (tmp_path / "search.json").write_text(json.dumps(definition))
    check_data_set(tmp_path, DATA)
    assert check_results(space, tmp_path, resume=True).name == "tiny"


def test_resuming_where_nothing_is_says_so(space_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = load_space(space_file)
    with caplog.at_level("INFO"):
        say_nothing_to_resume(tmp_path / "tiny", "tiny")
        (tmp_path / "renamed").mkdir()
        write_definition(space, tmp_path / "renamed", DATA)
        say_nothing_to_resume(tmp_path / "tiny", "tiny")
        say_nothing_to_resume(tmp_path / "renamed", "tiny")
    first, second = caplog.messages
    assert first == f"{tmp_path}/tiny: nothing to resume there, so it begins anew"
    assert (
        second
        == f"{first}; {tmp_path}/renamed holds a search of this name: to continue it, rename it to {tmp_path}/tiny"
    )


@pytest.mark.parametrize("resume", [True, False])
def test_trials_whose_definition_is_lost_are_not_taken_for_a_new_search(
    space_file: Path, tmp_path: Path, resume: bool
) -> None:
    (tmp_path / "tiny/trials/000").mkdir(parents=True)
    with pytest.raises(UserError, match=r"tiny exists and holds no search; search.json is missing: put a copy back"):
        check_results(load_space(space_file), tmp_path / "tiny", resume=resume)


def resumed(space_file: Path, directory: Path, search: str, **given: int) -> SearchSettings:
    """The settings of the search in `directory`, resumed with this [search] table in its file."""
    text = space_file.read_text().partition("[search]")[0]
    space_file.write_text(f"{text}[search]\n{search}\n")
    space = check_results(load_space(space_file), directory, resume=True, **given)
    say_changed(space, directory)
    write_definition(space, directory, DATA)
    return space.search


def test_limits_that_the_file_has_now_count_and_a_line_says_so(
    space_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "tiny"
    directory.mkdir()
    write_definition(load_space(space_file), directory, DATA)  # 5 trials
    changed = f"{directory}: changed since the last run, from now on: "
    with caplog.at_level("INFO"):
        assert resumed(space_file, directory, "trials = 5").trials == 5
        assert not caplog.messages
        assert resumed(space_file, directory, "trials = 3").trials == 3
        assert caplog.messages.pop() == f"{changed}[search] trials 5 -> 3"
        found = resumed(space_file, directory, "trials = 8\nhours = 2.0\npatience = 4", trials=6)
        assert (found.trials, found.hours, found.patience) == (6, 2.0, 4)
        assert caplog.messages.pop() == (
            f"{changed}[search] trials 3 -> 6; [search] hours none -> 2.0; [search] patience none -> 4"
        )
        assert resumed(space_file, directory, "trials = 8\nhours = 2.0\npatience = 4").trials == 6  # as --trials said
        found = resumed(space_file, directory, "trials = 9\nhours = 1.0\n[resources]\ncpus = 2")
        assert found.trials == 9
        assert "[search] trials 6 -> 9; [search] hours 2.0 -> 1.0;" in caplog.messages[-1]
        assert caplog.messages[-1].endswith("[resources] cpus 1 -> 2")


def test_workers_hold_until_the_file_or_the_flag_changes_them_and_a_line_says_so(
    space_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, text = tmp_path / "tiny", space_file.read_text()
    directory.mkdir()
    changed = f"{directory}: changed since the last run, from now on: [resources] workers"

    def workers(given: str | None = None, *, table: str = "") -> str:
        space_file.write_text(f"{text}[resources]\n{table}\n")
        space = load_space(space_file)
        space = check_results(space, directory, resume=(directory / "search.json").is_file(), workers=given)
        say_changed(space, directory)
        write_definition(space, directory, DATA)
        return space.resources.workers_text

    with caplog.at_level("INFO"):
        assert [workers("2"), workers(), workers("1:4"), workers()] == ["2", "2", "1:4", "1:4"]  # as --workers said
        assert workers(table="workers = 3") == "3"
        assert [workers(given, table="workers = 3") for given in ("1", None)] == ["1", "1"]
        with pytest.raises(UserError, match=r"--workers 9: \[resources\] workers = 9 is more than data.pairs_per_step"):
            workers("9")
    assert caplog.messages == [f"{changed} {change}" for change in ("2 -> [1, 4]", "[1, 4] -> 3", "3 -> 1")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("seed = 4", "seed is 0 in it and 4 now"),
        ('sampler = "random"', 'sampler is "tpe" in it and "random" now'),
        ('scheduler = "fifo"', 'scheduler is "asha" in it and "fifo" now'),
        ("grace_epochs = 2", "grace_epochs is 1 in it and 2 now"),
        ("reduction_factor = 2", "reduction_factor is 3 in it and 2 now"),
    ],
)
def test_what_decides_between_trials_may_not_change(space_file: Path, tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "tiny").mkdir()
    write_definition(load_space(space_file), tmp_path / "tiny", DATA)
    with pytest.raises(UserError, match=re.escape(f"holds another search: [search] {told}")):
        resumed(space_file, tmp_path / "tiny", f"trials = 5\n{line}")


@pytest.mark.parametrize(
    "left", [".preflight-0123456789ab", ".preflight/1700000000-ab", ".search.json.1a.partial", "search.toml", ".lock"]
)
def test_what_a_command_leaves_that_is_killed_before_it_begins_blocks_no_name(
    space_file: Path, tmp_path: Path, left: str
) -> None:
    path = tmp_path / "tiny" / left
    path.parent.mkdir(parents=True)
    path.touch()
    assert check_results(load_space(space_file), tmp_path / "tiny", resume=False).search.trials == 5
    (tmp_path / "tiny/notes.txt").touch()
    with pytest.raises(UserError, match="tiny exists and holds no search; choose another --results"):
        check_results(load_space(space_file), tmp_path / "tiny", resume=False)


@pytest.mark.parametrize("line", ["trials = 6", "trials = 5\nhours = 3.0", "trials = 5\npromote = 2"])
def test_limits_stay_once_the_second_stage_has_begun(space_file: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "tiny").mkdir()
    write_definition(load_space(space_file), tmp_path / "tiny", DATA)
    check_limits_kept(load_space(space_file), tmp_path / "tiny")
    space_file.write_text(space_file.read_text().replace("trials = 5", line))
    with pytest.raises(UserError, match=r"its second stage has begun, so \[search\] \w+ can no longer change; it was "):
        check_limits_kept(load_space(space_file), tmp_path / "tiny")


@pytest.mark.slow
def test_fewer_trials_than_have_run_end_a_search_and_more_continue_it(
    space_file: Path, tiny_data: Path, tmp_path: Path, ray_running: None, caplog: pytest.LogCaptureFixture
) -> None:
    text = space_file.read_text().replace("epochs = 4", "epochs = 1")
    counts = []
    with caplog.at_level("INFO"):
        for trials in (3, 2, 4):
            space_file.write_text(text.replace("trials = 5", f"trials = {trials}"))
            space = load_space(space_file)
            summary = run_search(space, results=tmp_path / "results", data=tiny_data, resume=bool(counts))
            assert summary.finished
            counts.append(len(summary.trials))
    assert counts == [3, 3, 4]
    changed = [line.partition("from now on: ")[2] for line in caplog.messages if "changed since" in line]
    assert changed == ["[search] trials 3 -> 2", "[search] trials 2 -> 4"]

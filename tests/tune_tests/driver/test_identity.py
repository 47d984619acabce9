"""Which search a folder holds, and whether it may be resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from nmt.data.store.ready import ReadyData
from nmt.errors import UserError
from tune.driver.identity import check_data_set, check_results, say_nothing_to_resume, write_definition
from tune.spaces.read import load_space

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

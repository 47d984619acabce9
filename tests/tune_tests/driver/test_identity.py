"""Which search a folder holds, and whether it may be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tune.driver.identity import check_results, write_definition
from tune.spaces.read import load_space


def test_the_budget_is_remembered_and_may_change(space_file: Path, tmp_path: Path) -> None:
    space, directory = load_space(space_file), tmp_path / "tiny"
    directory.mkdir()
    write_definition(space.with_budget(trials=9, seed=None), directory)
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

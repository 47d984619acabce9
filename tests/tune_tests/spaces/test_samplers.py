from __future__ import annotations

import pytest

from nmt.errors import UserError
from tune.spaces.samplers import BUILT_IN, SAMPLERS, check_sampler


def test_the_names_known_to_a_file_are_those_that_the_study_registers() -> None:
    import tune.study.sampler

    registered = {n for n, make in SAMPLERS._items.items() if make.__module__ == tune.study.sampler.__name__}
    assert registered == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_sampler_of_the_project_passes(name: str) -> None:
    check_sampler(name, "here")


def test_another_name_is_one_line_that_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NMT_EXTENSIONS", raising=False)
    with pytest.raises(UserError, match=r'^here: sampler must be one of tpe, .*, grid, but got "tpee"$'):
        check_sampler("tpee", "here")

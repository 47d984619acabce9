"""Which columns of the table fit on the terminal."""

from __future__ import annotations

import dataclasses

import pytest

from tests.tune_tests.results.summaries import record, summary
from tune.results.trial_table import abbreviated, fitting, short_name, trial_table

CELLS = {"decode.sinkhorn_iterations": ["27"], "optim.lr": ["0.000316"], "loss.layer": ["0.3"], "model.layer": ["4"]}


def test_whole_names_are_kept_where_all_of_them_fit() -> None:
    names, dropped = fitting(CELLS, 100)
    assert list(names.values()) == ["sinkhorn_iterations", "lr", "loss.layer", "model.layer"] and not dropped


@pytest.mark.parametrize(("room", "kept"), [(48, 4), (47, 3), (35, 3), (34, 2), (23, 2), (22, 1), (13, 1), (9, 0)])
def test_the_first_keys_stay(room: int, kept: int) -> None:
    names, dropped = fitting(CELLS, room)
    assert len(names) == kept and sorted([*names, *dropped]) == sorted(CELLS)
    assert list(names) == list(CELLS)[:kept]
    assert sum(max(len(name), *map(len, CELLS[key])) + 2 for key, name in names.items()) <= room
    assert not names or names["decode.sinkhorn_iterations"] == "sinkh_itera"


def test_names_are_shortened_to_what_still_names_them() -> None:
    assert abbreviated("sinkhorn_iterations", 11) == "sinkh_itera" and abbreviated("temperature", 11) == "temperature"
    assert abbreviated("hyperspherical", 11) == "hyperspheri" and abbreviated("a_b_c_d_e_f_g", 5) == "a_b_c"
    assert short_name("loss.layer", ["loss.layer", "model.layer"]) == "loss.layer"


def test_the_keys_that_matter_come_first_and_the_others_are_named() -> None:
    keys = {f"loss.weight_number_{n}": "0 to 1" for n in range(9)}
    searched = dict.fromkeys(keys, 0.25)
    found = dataclasses.replace(
        summary(record(0, 0.5, searched=searched), record(1, 0.6, searched=searched)), space=keys
    )
    text = trial_table(found, width=100, order=["loss.weight_number_7"])
    assert text.split()[:5] == ["trial", "state", "epochs", "val", "wei_num_7"]
    assert "loss.weight_number_7" not in text.split("also: ")[1] and text.split()[-2:] == ["to", "report.html"]
    assert max(map(len, text.splitlines())) <= 100
    assert trial_table(summary(), width=100) == ""

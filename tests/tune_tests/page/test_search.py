"""The content of a search's page, where it differs from search to search."""

from __future__ import annotations

import dataclasses

from tests.tune_tests.page.made_searches import write_search
from tests.tune_tests.results.summaries import record, summary
from tune.page.search import duration, search_content
from tune.results.commands import next_commands


def test_several_objectives_have_a_pareto_set_and_no_early_stopping_no_rungs(gallery, tmp_path):
    names = ["val/accuracy", "decoder_parameters"]
    trials = [
        record(n, 0.5 + 0.1 * n, objectives=dict(zip(names, (0.5 + 0.1 * n, 1e5 * (n + 1)), strict=True)))
        for n in range(3)
    ]
    made = summary(*trials)
    made = dataclasses.replace(made, search=made.search | {"objectives": names, "scheduler": "fifo"})
    content = search_content(made, tmp_path, gallery)
    assert content["pareto"]["rows"][0] == ["002", "70.0 %", "3e+05"] and len(content["pareto"]["rows"]) == 3
    assert (
        content["rungs"] is None and content["timeline"] is None and content["asked"]["objectives"] == ", ".join(names)
    )


def test_the_leaderboard_sorts_by_the_value_and_the_commands_are_those_of_the_report(gallery, tmp_path):
    directory = tmp_path / "toy"
    made = write_search(directory, trials=12, running=True)
    content = search_content(made, directory, gallery)
    rows, heads = content["table"]["rows"], content["table"]["heads"]
    order = [row["cells"][4][1] for row in rows if row["cells"][4][1] != ""]
    assert order == sorted(order, reverse=True) and len(rows) == 13
    assert all(len(row["cells"]) == len(heads) for row in rows)
    assert content["commands"] == next_commands(made, directory) and "--resume" in content["commands"][0][0]


def test_times_are_in_the_unit_that_suits_them():
    assert [duration(s) for s in (3.2, 89, 90, 5400, 9000)] == ["3 s", "89 s", "1.5 min", "1.5 h", "2.5 h"]

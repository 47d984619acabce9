"""`--report`: the table of what lies in a folder of results, as often as it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tune_tests.results.summaries import record, summary
from tune.cli.main import main
from tune.results.report import render


def test_the_table_of_a_search_is_printed_from_its_summary_alone(capsys):
    directory = Path("results/toy")
    directory.mkdir(parents=True)
    found = summary(record(0, 0.5), record(1, 0.7, lr=0.02))
    found.save(directory)
    assert main(["--report", "toy", "--json"]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    assert "\n".join(table) == render(found, directory)
    assert json.loads(last) == json.loads((directory / "summary.json").read_text())


def test_a_folder_without_a_table_and_a_damaged_one_are_one_line(refused):
    directory = Path("results/toy")
    directory.mkdir(parents=True)
    assert "run one with: python run.py --search toy" in refused("--report", "toy")
    (directory / "summary.json").write_text("{")
    assert "not the summary of a search" in refused("--report", "toy")
    (directory / "ablation.json").write_text("{}")  # an ablation's table comes first
    assert "ablation.json: not the table of an ablation" in refused("--report", "toy")

"""`--report`: the table of what lies in a folder of results, as often as it is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from nmt.io.files import write_json
from tests.tune_tests.evidence.confirmations import DEFAULT, confirmed, repeated
from tests.tune_tests.results.summaries import record, summary
from tune.cli.main import main
from tune.evidence.final import Final
from tune.results.report import render


def test_the_table_of_a_search_is_printed_from_its_summary_alone(capsys):
    directory = Path("results/toy")
    directory.mkdir(parents=True)
    found = summary(record(0, 0.5), record(1, 0.7, lr=0.02))
    found.save(directory)
    assert main(["--report", "toy", "--json"]) == 0
    *table, page, last = capsys.readouterr().out.rstrip("\n").split("\n")
    assert "\n".join(table) == render(found, directory) + "\n"
    assert page == "page: results/toy/report.html" and (directory / "report.html").is_file()
    printed = json.loads(last)
    assert printed.pop("page") == "results/toy/report.html"
    assert printed == json.loads((directory / "summary.json").read_text())


def test_a_confirmation_is_printed_and_in_the_json_with_its_final_trainings(capsys):
    directory = Path("results/toy/confirm")
    directory.mkdir(parents=True)
    summary(record(0, 0.5), record(1, 0.7, lr=0.02)).save(directory.parent)
    final = Final(winner=repeated("001", [0.0] * 3, [0.71, 0.72, 0.74]), default=repeated("000", [0.0] * 3, [0.6] * 3))
    found = replace(confirmed(DEFAULT, repeated("001", [0.70, 0.71, 0.72])), final=final)
    write_json(directory / "confirm.json", found.to_dict())
    assert main(["--report", "toy", "--json"]) == 0
    out = capsys.readouterr().out.rstrip("\n")
    assert "Final trainings on train and val together, 3 seeds each" in out
    printed = json.loads(out.split("\n")[-1])
    assert printed["confirm"] == json.loads(json.dumps(found.to_dict()))
    measured = "noise of 1.0 points over seeds: measured by --confirm, 6 trainings"
    assert measured in " ".join(out.split()) and printed["luck"]["source"] == "measured by --confirm, 6 trainings"


def test_a_folder_without_a_table_and_a_damaged_one_are_one_line(refused):
    directory = Path("results/toy")
    directory.mkdir(parents=True)
    assert "run one with: python run.py --search toy" in refused("--report", "toy")
    (directory / "summary.json").write_text("{")
    assert "not the summary of a search" in refused("--report", "toy")
    (directory / "ablation.json").write_text("{}")  # an ablation's table comes first
    assert "ablation.json: not the table of an ablation" in refused("--report", "toy")


def test_a_search_that_has_begun_and_has_nothing_to_show_is_one_line(refused):
    directory = Path("results/toy")
    directory.mkdir(parents=True)
    (directory / "search.json").write_text("{}")
    assert "results/toy: nothing has ended here yet" in refused("--report", "toy")
    (directory / "search.json").write_text('{"fidelity": ["features", "images"]}')
    assert "results/toy: nothing has ended here yet" in refused("--report", "toy"), "its first stage has begun"
    (directory / "search.json").write_text("{}")
    summary().save(directory)
    assert "summary.json: no trial has ended or paused yet" in refused("--report", "toy")
    assert not (directory / "report.html").exists() and not (directory / "report").exists()


def test_a_folder_that_cannot_be_written_still_has_its_table(capsys):
    directory = Path("results/toy")
    (directory / "report.html").mkdir(parents=True)  # root may write anywhere, but no file over a folder
    found = summary(record(0, 0.5), record(1, 0.7, lr=0.02))
    found.save(directory)
    assert main(["--report", "toy"]) == 2
    printed = capsys.readouterr()
    assert printed.out.rstrip("\n") == render(found, directory)
    assert printed.err.count("\n") == 1 and "report.html: cannot be written" in printed.err

"""The names that a job's NAME may have here."""

from __future__ import annotations

from pathlib import Path

from nmt.recipes import recipe_names
from tune.cli import names
from tune.cli.main import JOBS


def test_results_are_folders_and_an_absent_place_has_none(tmp_path):
    (tmp_path / "there/demo").mkdir(parents=True)
    (tmp_path / "there/demo-inspect.html").touch()
    assert names.results(tmp_path / "there") == ["demo"] and names.results(tmp_path / "absent") == []
    assert names.results(tmp_path / "there/demo-inspect.html") == []


def test_data_without_objects_and_recipes_named_twice_are_left_out():
    for name in ("birds", "demo"):
        Path("data", name).mkdir(parents=True)
        Path("data", name, "objects.arrow").touch()
    Path("data/raw").mkdir()
    assert names.recipes_and_data(Path()) == sorted([*recipe_names(), "birds"])


def test_every_job_lists_names_in_an_empty_folder():
    listed = {flag: list(job.names(Path("results"))) for flag, job in JOBS.items()}
    assert listed["--search"] == recipe_names() and "optim.lr" in listed["--keys"] and listed["--report"] == []

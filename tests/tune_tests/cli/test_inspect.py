"""`--inspect`: the page of a prepared data set, among the results."""

from __future__ import annotations

import json
from pathlib import Path

from tune.cli.main import main

TINY = ["--set", "data.image_size=32", "--set", "data.mode=images"]


def test_the_page_lies_in_the_results_and_is_named_after_the_data_set(tiny_data, capsys):
    assert main(["--inspect", "demo", "--data", str(tiny_data), "--results", "out", *TINY, "--json"]) == 0
    printed = capsys.readouterr().out
    page = Path("out/demo-inspect.html")
    assert page.is_file() and str(page) in printed
    assert json.loads(printed.splitlines()[-1]) == {"page": str(page)}


def test_another_seed_shows_other_pairs_and_the_same_seed_the_same(tiny_data):
    pages = []
    for seed in ("0", "1", "0"):
        assert main(["--inspect", "demo", "--data", str(tiny_data), "--seed", seed, *TINY]) == 0
        pages.append(Path("results/demo-inspect.html").read_text())
    assert pages[0] == pages[2] != pages[1]


def test_an_absent_data_set_is_one_line_and_leaves_nothing(refused):
    assert "data/demo/objects.arrow: not there; make it with: python run.py --prepare demo" in refused(
        "--inspect", "demo"
    )
    assert not list(Path().iterdir())

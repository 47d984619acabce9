"""The intervals over seeds and photographs in the report of a confirmation."""

from __future__ import annotations

from dataclasses import replace

from nmt.io.files import write_json
from tests.tune_tests.evidence.confirmations import DEFAULT, DIRECTORY, confirmed, repeated
from tune.evidence.confirmed import load_confirmed, render
from tune.evidence.final import Final
from tune.evidence.photograph_table import HEAD, photograph_table
from tune.evidence.photographs import Spread

WINNER = repeated("007", [0.70, 0.71, 0.72], test=[0.6, 0.62, 0.61])
TESTED = repeated("000", [0.60, 0.61, 0.62], test=[0.55, 0.56, 0.57])


def spread(difference: float | None) -> Spread:
    return Spread(photographs=30, accuracy=0.02, difference=difference)


def test_each_split_has_its_rows_and_the_default_has_no_difference() -> None:
    known = {of: {"000": spread(None), "007": spread(0.03)} for of in ("val", "test", "final")}
    text = photograph_table(TESTED, [WINNER], Final(winner=WINNER, default=TESTED), known)
    head, _, *lines = text.splitlines()
    assert head == HEAD and all(len(line) <= 100 for line in text.splitlines())
    rows = [line.split() for line in lines]
    assert [(row[0], row[1]) for row in rows] == [(of, c) for of in ("val", "test", "final") for c in ("007", "000")]
    assert rows[0][4] == "+10.0" and len(rows[1]) == 4 and rows[2][4] == rows[4][4] == "+5.0"


def test_a_confirmation_keeps_its_intervals_in_its_file(tmp_path) -> None:
    known = {"val": {"000": spread(None), "007": spread(0.03)}}
    found = replace(confirmed(DEFAULT, WINNER), photographs=known)
    write_json(tmp_path / "confirm.json", found.to_dict())
    assert load_confirmed(tmp_path / "confirm.json") == found
    text = render(found, DIRECTORY)
    assert HEAD in text and "Winner: 007. On val +10.0 [+8.9, +11.1] points" in text
    low = text.partition(HEAD)[2].split("+10.0 [")[1].partition(",")[0]
    assert float(low) < 5  # the seeds alone say +8.9


def test_a_confirmation_of_an_earlier_version_says_that_it_knows_seeds_alone(tmp_path) -> None:
    content = confirmed(DEFAULT, WINNER).to_dict()
    del content["photographs"]
    write_json(tmp_path / "confirm.json", content)
    text = render(load_confirmed(tmp_path / "confirm.json"), DIRECTORY)
    assert "The intervals are over seeds alone: no results by pair" in text and HEAD not in text

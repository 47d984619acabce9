"""The measures beside accuracy, from the files that trainings leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nmt.io.files import write_json
from tests.tune_tests.evidence.confirmations import repeated
from tune.evidence.measures import HEAD, measured, measures_table, protocol_tables
from tune.evidence.repeated import Repeated
from tune.results.layout import figures_file


def figures(accuracy: float, *, f1: float = 0.5, pck: float | None = None) -> dict[str, Any]:
    """What a training leaves: every PCK is alike, and so is F1 of every protocol."""
    points = None if pck is None else {"per_point": {"NMT": dict.fromkeys(("0.05", "0.1", "0.15"), pck)}}
    outliers = {"figures": {name: {"f1": f1, "ece": 0.1} for name in ("inter", "union")}}
    return {"accuracy": accuracy, "pck": points, "outliers": outliers}


def trained(directory: Path, name: str, pcks: tuple[float | None, ...], split: str = "val") -> Repeated:
    accuracies = [0.6 + 0.01 * k for k in range(len(pcks))]
    found = repeated(name, accuracies, test=accuracies)
    for run, accuracy, pck in zip(found.runs, accuracies, pcks, strict=True):
        write_json(directory / run.directory / figures_file(split), figures(accuracy, pck=pck))
    return found


def test_the_table_has_the_mean_over_the_seeds_and_its_standard_error(tmp_path: Path) -> None:
    every = [trained(tmp_path, "007", (0.70, 0.72, 0.74)), trained(tmp_path, "000", (0.60, 0.60, 0.60))]
    found = measured(tmp_path, "val", every)
    assert found["007"]["PCK@0.1"] == [0.70, 0.72, 0.74] and found["007"]["inter f1"] == [0.5, 0.5, 0.5]
    rows = [line.split() for line in measures_table({"val": found}).splitlines()]
    assert rows[1] == ["configuration", "PCK@0.05", "PCK@0.1", "PCK@0.15", "F1", "ECE"]
    assert rows[2] == ["val", "007", *["72.0", "±1.2"] * 3, "50.0", "±0.0", "10.0", "±0.0"]  # 2 / sqrt 3 = 1.15
    assert rows[3][:4] == ["val", "000", "60.0", "±0.0"]
    assert [name for name, _ in protocol_tables({"val": found})] == ["inter", "union"]


def test_splits_have_rows_of_their_own_and_test_is_that_file_of_old(tmp_path: Path) -> None:
    one = trained(tmp_path, "007", (0.7, 0.8), split="test")
    assert (tmp_path / "runs/007-s1/test.json").is_file()
    of = {split: measured(tmp_path, split, [one]) for split in ("val", "test")}
    assert of["val"] == {}
    assert [line.split()[:2] for line in measures_table(of).splitlines()[2:-2]] == [["test", "007"]]


@pytest.mark.parametrize("fault", ["absent", "damaged", "of other weights"])
def test_a_configuration_without_its_figures_has_no_row(tmp_path: Path, fault: str) -> None:
    every = [trained(tmp_path, "007", (0.7, 0.7)), trained(tmp_path, "000", (0.6, 0.6))]
    path = tmp_path / "runs/007-s2/val.json"
    if fault == "absent":
        path.unlink()
    elif fault == "damaged":
        path.write_text(path.read_text()[:20])
    else:
        write_json(path, figures(0.3, pck=0.7))
    found = measured(tmp_path, "val", every)
    assert set(found) == {"000"}


def test_a_measure_that_one_seed_lacks_is_left_out_and_failed_trainings_count_in_none(tmp_path: Path) -> None:
    one = trained(tmp_path, "007", (0.7, None))
    assert "PCK@0.1" not in measured(tmp_path, "val", [one])["007"]
    failed = repeated("009", [0.6, None])
    write_json(tmp_path / "runs/009-s1/val.json", figures(0.6, pck=0.8))
    assert measured(tmp_path, "val", [failed])["009"]["PCK@0.1"] == [0.8]
    assert measured(tmp_path, "val", [repeated("010", [None, None])]) == {}


def test_where_nothing_was_measured_there_is_no_table() -> None:
    assert measures_table({"val": {}, "test": {}}) == "" and protocol_tables({"val": {}}) == []
    assert HEAD not in measures_table({})

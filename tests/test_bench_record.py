"""tests/bench/record.py: the rows of RESULTS.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench import record as module
from tests.bench.record import COLUMNS, own_command, record


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "RESULTS", tmp_path / "RESULTS.md")
    return module.RESULTS


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")]


def test_each_measurement_is_one_row_of_one_table(results: Path) -> None:
    record({"a step": "59 ms", "memory": "11 GB"}, command="python tests/bench/step.py")
    record({"odd": "1 | 2\nover two lines"}, command="python tests/bench/odd.py a|b")
    head, rule, *rows = [line for line in results.read_text().splitlines() if line.startswith("|")]
    assert cells(head) == list(COLUMNS) and len(cells(rule)) == len(COLUMNS)
    assert [len(cells(row)) for row in rows] == [len(COLUMNS)] * 2
    date, machine, versions, commit, command, figures = cells(rows[0])
    assert date.count("-") == 2 and "cores" in machine and "torch" in versions and commit
    assert (command, figures) == ("`python tests/bench/step.py`", "a step 59 ms; memory 11 GB")
    assert cells(rows[1])[-1] == "odd 1 \0 2 over two lines"


def test_a_measurement_without_a_figure_is_a_mistake(results: Path) -> None:
    with pytest.raises(ValueError, match="without a figure"):
        record({})
    assert not results.exists()


def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = str(module.ROOT / "tests/bench/step.py")
    monkeypatch.setattr(sys, "argv", [bench, "--set", "a=b c", "--record", "/elsewhere/data"])
    assert own_command() == "python tests/bench/step.py --set 'a=b c' /elsewhere/data"


def test_a_copy_without_history_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert module.commit() == "not known"

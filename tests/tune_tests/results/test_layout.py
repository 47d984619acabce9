"""File names of a search and of a training are spelt in their two modules alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.inference import repository
from nmt.training import files
from tests.paths import ROOT
from tune.results import layout
from tune.results.layout import trial_id

SEARCHED = [
    ROOT / "run.py",
    *(p for folder in ("tune", "nmt/training", "nmt/inference") for p in sorted((ROOT / folder).rglob("*.py"))),
]
SPELT = {Path(module.__file__ or "") for module in (layout, files, repository)}


def names_of(module: object) -> set[str]:
    return {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


NAMES = names_of(layout) | names_of(files)
WORDS = {name for name in NAMES if "." not in name}
"""names of folders: ordinary words, which mean a folder only where a path is made"""


def spelt_names(source: str) -> list[tuple[int, str]]:
    """(line, name) of every string in which a name stands as a part of a path."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    in_paths = {id(part) for part in _path_parts(tree)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            text = node.value
            parts = [text] if any(c.isspace() for c in text) else re.split("/", text)
            known = NAMES if len(parts) > 1 or id(node) in in_paths else NAMES - WORDS
            found += [(node.lineno, part) for part in parts if part in known]
    return found


def _path_parts(tree: ast.AST) -> Iterator[ast.expr]:
    """Operands of `/`, what is compared with a path's name, and values of constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from (node.left, node.right)
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "name":
            yield from node.comparators
        elif isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets):
            yield node.value


def test_no_name_below_results_is_spelt_a_second_time() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": name
        for path in SEARCHED
        if path not in SPELT
        for line, name in spelt_names(path.read_text())
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        'directory / "summary.json"',
        'directory / "trials" / name',
        'f"trials/{number:03d}"',
        'storage.holds("best.pt")',
        'folder.parent.name == "trials"',
        'FOLDER = "confirm"',
        'glob("**/metrics.jsonl")',
        'print(f"{directory}/best.json")',
    ],
)
def test_a_spelt_name_is_found(source: str) -> None:
    assert len(spelt_names(source)) == 1


@pytest.mark.parametrize(
    "source",
    ['{"trials": 3}', 'jobs["confirm"]', '"""trials/ holds a folder per trial"""', 'print("see summary.json")'],
)
def test_a_word_that_names_no_file_is_not(source: str) -> None:
    assert spelt_names(source) == []


def test_names_are_all_different() -> None:
    every = [v for m in (layout, files) for k, v in vars(m).items() if k.isupper() and isinstance(v, str)]
    assert len(every) == len(set(every)) == len(NAMES) > 20


def test_a_trial_has_the_folder_of_its_id() -> None:
    assert [layout.trial_id(n) for n in (0, 7, 1234)] == ["000", "007", "1234"]
    assert layout.trial_folder(7) == "trials/007"


@given(st.lists(st.integers(0, 999), min_size=2, unique=True))
def test_names_of_trials_sort_as_their_numbers(numbers: list[int]) -> None:
    assert sorted(map(trial_id, numbers)) == [trial_id(n) for n in sorted(numbers)]
    assert [int(trial_id(n)) for n in numbers] == numbers


def test_more_than_a_thousand_trials_have_names_too() -> None:
    assert [trial_id(n) for n in (7, 1234)] == ["007", "1234"]

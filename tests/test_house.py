"""The rules of the layout, read from the source: who may import whom, what is written once, how large things are."""

from __future__ import annotations

import ast
import graphlib
import itertools
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from nmt.config import flatten
from nmt.recipes import RECIPES, RecipeFile, find_recipe, read_recipe
from tests.paths import ROOT

RANKS = {
    "spaces": 0,
    "study": 1,
    "results": 1,
    "jobs": 2,
    "cluster": 2,
    "driver": 3,
    "evidence": 4,
    "prepare_data": 4,
    "page": 5,
    "": 5,  # tune/__init__.py, the Python API
    "cli": 6,
}
"""Wing of tune -> its rank: a module imports its own wing and wings of a lower rank."""

NEVER = {
    "nmt": {"ray", "optuna", "pydantic", "tune"},
    "tune.study": {"ray"},
    "tune.jobs": {"optuna"},
}
"""Package -> what it imports nowhere, functions and TYPE_CHECKING included."""

BLOCKED = {
    "nmt": {"ray", "optuna", "pydantic"},
    "tune.spaces": {"ray", "optuna", "torch"},
    "tune.results": {"ray", "optuna", "torch"},
    "tune.study": {"ray"},
    "tune.jobs": {"optuna"},
    "tune.page": {"ray", "optuna"},
}
"""Package -> what is absent while every module of it is imported."""

WITHOUT_TEST = {
    "tune.cluster.__main__": "the command line of tune.cluster.check: test_check.py calls it",
    "tune.cluster.kubernetes": "what tune.cluster.check asks of Kubernetes files: a table of mistakes in test_check.py",
    "tune.cluster.nodes": "waits for the nodes of a real cluster: test_ray_up.py",
}
"""Module with logic -> why it has no test file of its own name."""

WITHOUT_MODULE = {
    "tests/nmt_tests/training/test_train_split.py": "one key of the configuration through every module of the training",
    "tests/nmt_tests/inference/serve/test_page.py": "page.html and its scripts, in a browser",
    "tests/tune_tests/cluster/test_ray_up.py": "machines of a cluster as `ray up` starts them: several modules at once",
    "tests/tune_tests/cluster/test_orphan.py": "cluster/orphan.sh, which ends a node without a head",
    "tests/tune_tests/cluster/test_scripts.py": "the other scripts of cluster/",
    "tests/tune_tests/driver/test_chaos.py": "whole searches under random kills: every wing at once",
    "tests/tune_tests/driver/test_replayed_chaos.py": "whole searches under every fault: every wing at once",
    "tests/tune_tests/cluster/test_reproduce.py": "cluster/reproduce.sh",
    "tests/tune_tests/test_faults.py": "docs/faults.md, and faults of whole searches",
}
"""Test file of no module -> why."""

FILE_LINES, CLASS_LINES, FUNCTION_LINES = 400, 200, 61

IMPORT_ALL = """
import importlib, importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocked())
for name in sys.argv[2:]:
    importlib.import_module(name)
assert not BLOCKED & set(sys.modules)
"""


# --- what the source says ---


@cache
def modules() -> Mapping[str, Path]:
    """Every module of nmt and tune by its dotted name; a package is its __init__.py."""
    found = {}
    for path in (path for top in ("nmt", "tune") for path in sorted((ROOT / top).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported(module: str) -> frozenset[str]:
    """Dotted names that a module imports anywhere in its text."""
    return frozenset(named_imports(module, tree(modules()[module]), modules()))


def named_imports(module: str, source: ast.Module, known: Mapping[str, Path]) -> Iterator[str]:
    """The names that `source` imports; `from package import name` is package.name where that is a module."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def wing(module: str) -> str:
    """tune.results.table -> results"""
    return ".".join(module.split(".")[1:2])


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """A circle of the graph; empty where there is none."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def has_logic(source: ast.Module) -> bool:
    """True if the module defines a function or class with more than a docstring."""
    definitions = (n for n in source.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))
    return any(not all(is_text(statement) for statement in definition.body) for definition in definitions)


def is_text(statement: ast.stmt) -> bool:
    """True for a docstring, `...` and `pass`."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def test_file(module: str) -> Path:
    """Where the tests of a module belong: nmt.io.files -> tests/nmt_tests/io/test_files.py."""
    path = modules()[module].relative_to(ROOT)
    name = {"__init__": "api", "__main__": "main"}.get(path.stem, path.stem)
    return Path("tests", f"{path.parts[0]}_tests", *path.parts[1:-1], f"test_{name}.py")


# `test_file` is no test, whatever its name
test_file.__test__ = False  # type: ignore[attr-defined]


# --- rule 1: who imports whom ---


def test_a_wing_of_tune_imports_only_wings_below_it() -> None:
    tune = [module for module in modules() if inside(module, "tune")]
    unknown = sorted(module for module in tune if wing(module) not in RANKS)
    assert not unknown, f"modules of no wing: {unknown}"
    upward = [
        f"{module} imports {name}"
        for module in tune
        for name in sorted(imported(module))
        if inside(name, "tune") and wing(name) != wing(module) and RANKS[wing(name)] >= RANKS[wing(module)]
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("package", NEVER)
def test_what_a_package_never_imports(package: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if inside(module, package)
        for name in sorted(imported(module))
        if name.partition(".")[0] in NEVER[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = circle({module: set(imported(module)) & set(modules()) - {module} for module in modules()})
    assert not found, " <- ".join(found)


@pytest.mark.parametrize("parent", ["nmt", "nmt.data", "tune"])
def test_no_folders_side_by_side_import_each_other_in_a_circle(parent: str) -> None:
    depth = len(parent.split("."))
    folders = {m for m, p in modules().items() if p.name == "__init__.py" and m.rpartition(".")[0] == parent}
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, name in ((m, n) for m in modules() for n in imported(m) if n in modules()):
        source, target = (".".join(x.split(".")[: depth + 1]) for x in (module, name))
        if source in folders and target in folders and source != target:
            arrows[source].add(target)
    assert len(arrows) > 2
    assert not circle(arrows), " <- ".join(circle(arrows))


# --- rule 2: what each wing runs without ---


@pytest.mark.parametrize("package", BLOCKED)
def test_a_wing_is_imported_whole_where_its_forbidden_packages_are_absent(package: str) -> None:
    names = [module for module, path in modules().items() if inside(module, package) and path.stem != "__main__"]
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(sorted(BLOCKED[package])), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(done.stderr.splitlines()[-8:])


# --- rule 6: a recipe writes what differs ---


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_repeats_no_value_that_it_inherits(path: Path) -> None:
    inherited: dict[str, tuple[object, str]] = {}
    for ancestor in reversed(ancestors(path)):
        inherited |= {key: (value, ancestor.source) for key, value in written(ancestor).items()}
    repeated = [
        f"{key} of {inherited[key][1]}"
        for key, value in written(read_recipe(path)).items()
        if key in inherited and inherited[key][0] == value
    ]
    assert not repeated, f"{path.name}: [base] repeats {', '.join(repeated)}"


def ancestors(path: Path) -> list[RecipeFile]:
    """The files that a recipe starts from, the nearest first."""
    found = []
    while start := read_recipe(path).tables.get("from"):
        path = find_recipe(start)
        found.append(read_recipe(path))
    return found


def written(file: RecipeFile) -> dict[str, object]:
    """Key -> value of the [base] table."""
    return flatten(file.tables.get("base", {}), source=file.source)


# --- rule 7: tests mirror the tree ---


def test_every_module_with_logic_has_a_test_file_of_its_name() -> None:
    logic = {module for module, path in modules().items() if has_logic(tree(path))}
    missing = [
        f"{module}: no {test_file(module).as_posix()}"
        for module in sorted(logic - set(WITHOUT_TEST))
        if not (ROOT / test_file(module)).is_file()
    ]
    assert not missing, "\n".join(missing)
    excused = [module for module in WITHOUT_TEST if module not in logic or (ROOT / test_file(module)).is_file()]
    assert not excused, f"these need no exception: {excused}"


def test_every_test_file_in_the_mirrored_folders_tests_a_module() -> None:
    expected = {test_file(module) for module in modules()}
    folders = [ROOT / f"tests/{top}_tests" for top in ("nmt", "tune")]
    found = {path.relative_to(ROOT) for folder in folders for path in folder.rglob("test_*.py")}
    stray = {path.as_posix() for path in found - expected}
    assert stray == set(WITHOUT_MODULE)


# --- size ---


@pytest.mark.parametrize(("kind", "most"), [("file", FILE_LINES), ("class", CLASS_LINES), ("function", FUNCTION_LINES)])
def test_nothing_is_too_long_to_read(kind: str, most: int) -> None:
    sources = [*modules().values(), ROOT / "run.py"]
    too_long = [f"{name}: {lines} lines" for path in sources for name, lines in lengths(path, kind) if lines > most]
    assert not too_long, f"a {kind} has at most {most} lines:\n" + "\n".join(too_long)


def lengths(path: Path, kind: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of the file, or of each class or function in it, decorators included."""
    shown = path.relative_to(ROOT)
    if kind == "file":
        yield str(shown), len(path.read_text().splitlines())
        return
    kinds = ast.ClassDef if kind == "class" else ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree(path)):
        if isinstance(node, kinds):
            first = min((d.lineno for d in node.decorator_list), default=node.lineno)
            assert node.end_lineno is not None
            yield f"{shown}:{node.lineno} {node.name}", node.end_lineno - first + 1


# --- the rules above find what breaks them ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import ray.tune as x", {"ray.tune"}),
        ("def f():\n    from tune.study import halving, Sampler", {"tune.study.halving", "tune.study"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import optuna", {"typing", "optuna"}),
    ],
)
def test_imports_anywhere_in_a_module_count(text: str, found: set[str]) -> None:
    known = {"tune.study.halving": Path(), "tune.study": Path()}
    assert set(named_imports("m", ast.parse(text), known)) == found


def test_a_circle_is_found_whatever_its_length() -> None:
    for length in (2, 3, 7):
        names = [str(n) for n in range(length)]
        ring = {name: {after} for name, after in itertools.pairwise([*names, names[0]])}
        assert len(set(circle(ring))) == length
        ring[names[-1]] = set()
        assert circle(ring) == []


@pytest.mark.parametrize(
    ("text", "logic"),
    [
        ('"""Text."""\nSIZE = 3', False),
        ('class Stop(Exception):\n    """Text."""', False),
        ('def f(x: int) -> int:\n    """Text."""\n    return x', True),
        ("class Row:\n    number: int", True),
    ],
)
def test_logic_is_more_than_a_docstring(text: str, logic: bool) -> None:
    assert has_logic(ast.parse(text)) is logic


def test_a_blocked_package_cannot_be_imported() -> None:
    command = [sys.executable, "-c", IMPORT_ALL, "colorsys", "colorsys"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "colorsys is blocked" in done.stderr

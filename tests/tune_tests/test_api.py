"""The Python API of tune: its names, and what importing it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tune


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", tune.__all__)
def test_every_name_exists_and_is_documented(name: str) -> None:
    assert len(inspect.getdoc(getattr(tune, name)) or "") > 15
    assert name in dir(tune)


def test_all_lists_every_name_of_the_map_once() -> None:
    assert sorted(tune.__all__) == sorted(name for names in tune._MODULES.values() for name in names)
    with pytest.raises(AttributeError, match="module 'tune' has no attribute 'tuner'"):
        _ = tune.tuner


def test_importing_costs_nothing_and_a_name_only_what_it_needs() -> None:
    heavy = "sorted({'torch', 'pyarrow', 'ray', 'optuna', 'nmt.config'} & set(sys.modules))"
    assert python(f"import sys, tune; print({heavy})") == "[]\n"
    assert python(f"import sys, tune; tune.load_space('demo'); print({heavy})") == "['nmt.config']\n"
    loaded = python(f"import sys; from tune import load_summary, best_checkpoint; print({heavy})")
    assert not {"torch", "ray", "optuna"} & set(loaded.split("'"))


def test_running_a_search_takes_a_space_and_a_data_set() -> None:
    required = {
        name: [p.name for p in inspect.signature(getattr(tune, name)).parameters.values() if p.default is p.empty]
        for name in ("load_space", "run_search", "run_confirm", "run_ablation", "load_summary", "open_study")
    }
    assert required == {
        "load_space": ["given"],
        "run_search": ["space"],
        "run_confirm": ["directory"],
        "run_ablation": ["ablation", "data"],
        "load_summary": ["directory"],
        "open_study": ["directory"],
    }


def test_a_folder_without_a_search_is_one_line(tmp_path: Path) -> None:
    from nmt.errors import UserError

    for read in (tune.load_summary, tune.best_checkpoint, tune.open_study):
        with pytest.raises(UserError, match="does not exist: no search has run there"):
            read(str(tmp_path))
    assert not list(tmp_path.iterdir())

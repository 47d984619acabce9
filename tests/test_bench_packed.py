"""tests/bench/packed.py on a machine that has none of the packages of a search."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.paths import ROOT

WITHOUT = """
import importlib.abc, runpy, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "optuna", "pydantic", "tune"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
sys.path.insert(0, "tests/bench")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_trials_an_hour_are_measured_with_nmt_alone() -> None:
    size = "--epochs 1 --steps 2 --numbers 2 --alone 1"
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, "tests/bench/packed.py", "--device", "cpu", *size.split()],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for way in ("alone          1", "packed         2"):
        assert re.search(rf"^{way} trainings +[1-9]\d* an hour", ran.stdout, re.MULTILINE), ran.stdout
    assert float(re.findall(r"weights (\S+),", ran.stdout)[0]) < 1e-4, "packed, a member trains as alone"

"""tests/bench/step.py, from its start to its table."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

SMALL = [
    "--pairs", "2", "--set", "model.backbone=swinv2_tiny_window8_256", "--set", "data.image_size=64",
    "--set", "model.d_model=24", "--set", "model.heads=3", "--set", "model.decoder_layers=1",
]  # fmt: skip


def lines(*flags: str) -> list[list[str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "tests/bench/step.py", *SMALL, *flags]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.long
def test_the_estimate_has_a_line_for_each_execution_and_this_one_is_the_cheapest() -> None:
    table = {line[0]: line[1:] for line in lines("--estimate", "--card", "l4") if line}
    launches, moved, peak = ([float(table[name][k].replace(",", "")) for name in ("before", "now")] for k in (0, 2, 3))
    assert launches[1] < launches[0] and moved[1] <= moved[0] and peak[1] <= peak[0]
    assert float(table["published"][-1]) > float(table["now"][-1]) > 0


@pytest.mark.long
def test_a_measurement_has_all_stages_of_both_executions() -> None:
    found = [line for line in lines("--device", "cpu", "--steps", "2") if line]
    stages = {" ".join(word for word in line if not word[0].isdigit()) for line in found}
    assert {"wait for the loader", "backbone forward", "backward", "constraints", "step"} <= stages

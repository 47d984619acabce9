"""The wheel as its users install it: complete, and its command `nmt` works in any folder without a checkout.

The installed package is found before this checkout, whose own environment lends it the packages of others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

SOURCES = ("nmt", "tune", "search_spaces", "pyproject.toml", "setup.py", "README.md", "LICENSE")
PACKAGES = Path(sysconfig.get_paths()["purelib"])
SHORT = ("--set", "train.epochs=1", "--set", "train.steps_per_epoch=2", "--set", "optim.milestones=[]")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    pip(folder, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "made", ".")
    (made,) = (folder / "made").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with the other packages of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(
        f"{PACKAGES}\n"
    )  # a line of a .pth is searched last; its own .pth files are not read
    pip(folder, "--python", f"{folder}/bin/python", "install", "--no-deps", "--no-index", str(wheel))
    return folder


def pip(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(environment: Path, folder: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder."""
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    variables["PATH"] = f"{environment}/bin{os.pathsep}{variables['PATH']}"
    done = subprocess.run(
        [environment / "bin" / words[0], *words[1:]],
        cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_the_wheel_holds_every_file_of_the_packages_and_the_recipes(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "nmt", "tune", "search_spaces"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {name.replace("search_spaces/", "nmt/search_spaces/") for name in listed}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert {"nmt/py.typed", "tune/py.typed", "nmt/search_spaces/demo.toml"} <= held


def test_packages_and_recipes_come_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    code = "import nmt, tune, nmt.recipes as r; print(nmt.__file__, tune.__file__, r.find_recipe('voc'), sep='\\n')"
    lines = run(environment, tmp_path, "python", "-c", code).stdout.splitlines()
    assert len(lines) == 3 and all(Path(line).is_relative_to(environment) for line in lines)


def test_nmt_is_the_whole_command_line_in_any_folder(environment: Path, tmp_path: Path) -> None:
    helped = run(environment, tmp_path, "nmt", "--help").stdout
    assert "usage: nmt --JOB NAME" in helped and "nmt --search demo" in helped and "run.py" not in helped
    helped = run(environment, tmp_path, "nmt", "--search", "--help").stdout
    assert "\n  nmt --search demo\n" in helped and "run.py" not in helped
    assert run(environment, tmp_path, "nmt", "--version").stdout == "nmt 0.1.0\n"
    assert "optim.lr" in run(environment, tmp_path, "nmt", "--keys", "optim").stdout
    wrong = run(environment, tmp_path, "nmt", "--search", "dmeo", status=2).stderr
    assert wrong.startswith("nmt: no recipe named 'dmeo' in ") and "did you mean 'demo'" in wrong
    assert wrong.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_enough_for_a_search_its_report_and_a_recipe_of_ones_own(
    environment: Path, tmp_path: Path
) -> None:
    searched = run(environment, tmp_path, "nmt", "--search", "demo", "--trials", "1", *SHORT, "--json")
    (trial,) = json.loads(searched.stdout.splitlines()[-1])["trials"]
    assert trial["state"] == "COMPLETE" and (tmp_path / "results/demo/trials/000/best.pt").is_file()
    assert "000" in run(environment, tmp_path, "nmt", "--report", "demo").stdout
    run(environment, tmp_path, "nmt", "--init", "birds")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "results", "search_spaces"]
    assert "birds" in run(environment, tmp_path, "nmt", "--complete", "nmt --search ").stdout.split()

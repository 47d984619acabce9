"""`make setup` installs once for each content of the lock, adds extras to that, and never acts because of a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.paths import ROOT

PYTHON = """#!/bin/sh
# Python, but for `-m venv`: its .venv/bin/python writes down what it would install.
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
rm -rf .venv && mkdir -p .venv/bin .venv/lib
printf '#!/bin/sh\\necho "$PIP_CONSTRAINT $@" >> asked\\n' > .venv/bin/python
chmod +x .venv/bin/python
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    fake = tmp_path / "python"
    fake.write_text(PYTHON.format(python=sys.executable))
    fake.chmod(0o755)
    return tmp_path


def installed(checkout: Path, *words: str, target: str = "setup") -> list[str]:
    """Run `make` and return what it asked pip to install."""
    asked = checkout / "asked"
    asked.unlink(missing_ok=True)
    command = ["make", target, f"PYTHON={checkout / 'python'}", *words]
    environment = {key: value for key, value in os.environ.items() if key not in ("EXTRAS", "MAKEFLAGS")}
    made = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    lines = asked.read_text().splitlines() if asked.exists() else []
    return [line.rpartition(" ")[2] for line in lines if re.match(r"constraints\.txt -m pip install .* -e ", line)]


@pytest.mark.parametrize(
    ("words", "wanted"), [([], ["."]), (["EXTRAS="], ["."]), (["EXTRAS=aws,gcp"], [".", ".[aws,gcp]"])]
)
def test_a_second_call_installs_nothing_whatever_the_times_of_the_files(
    checkout: Path, words: list[str], wanted: list[str]
) -> None:
    assert installed(checkout, *words) == wanted
    later = time.time() + 3600
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        os.utime(checkout / name, (later, later))  # as a copy to a node may set it
    assert installed(checkout, *words) == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_another_content_with_an_old_time_is_installed(checkout: Path, name: str) -> None:
    installed(checkout, "EXTRAS=")
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    os.utime(checkout / name, (0, 0))
    assert installed(checkout, "EXTRAS=") == ["."]
    assert installed(checkout, "EXTRAS=") == []


def test_a_failed_installation_is_repeated(checkout: Path) -> None:
    (checkout / "python").write_text('#!/bin/sh\n[ "$1" = -c ] && echo 0 && exit\nexit 1\n')
    failed = subprocess.run(
        ["make", "setup", f"PYTHON={checkout / 'python'}"], cwd=checkout, capture_output=True, check=False
    )
    assert failed.returncode != 0
    (checkout / "python").write_text(PYTHON.format(python=sys.executable))
    assert installed(checkout) == ["."]


@pytest.mark.parametrize("target", ["test", "test-all", "lint"])
def test_the_jobs_of_developers_add_their_packages_and_others_do_not(checkout: Path, target: str) -> None:
    assert installed(checkout) == ["."]
    kept = checkout / ".venv/kept"
    kept.touch()
    (checkout / ".venv/bin/ruff").symlink_to("/bin/true")
    (checkout / ".venv/bin/mypy").symlink_to("/bin/true")
    assert installed(checkout, target=target) == [".[dev]"] and kept.exists()
    assert installed(checkout, target=target) == []
    assert installed(checkout, target="demo") == installed(checkout) == []


def test_a_failed_addition_keeps_what_is_there_and_is_repeated(checkout: Path) -> None:
    assert installed(checkout) == ["."]
    pip = checkout / ".venv/bin/python"
    working = pip.read_text()
    pip.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(AssertionError):
        installed(checkout, "EXTRAS=dev")
    pip.write_text(working)
    assert installed(checkout, "EXTRAS=dev") == [".[dev]"]


def test_another_content_installs_the_extras_again(checkout: Path) -> None:
    assert installed(checkout, "EXTRAS=dev") == [".", ".[dev]"]
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert installed(checkout, "EXTRAS=dev") == [".", ".[dev]"]


def test_each_kind_of_node_installs_what_its_cloud_needs_and_no_tools_of_developers() -> None:
    for name, extra in {"gpu.yaml": "aws", "gpu-gcp.yaml": "gcp", "local.yaml": ""}.items():
        commands = yaml.safe_load((ROOT / "cluster" / name).read_text())["setup_commands"]
        assert f"make -C ~/nmt setup EXTRAS={extra}" in commands, name
    assert re.search(r"make setup EXTRAS=$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

"""What all tests share: the photographs beside the project, and a watch over skipped tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Small computations, often in several processes: more threads would only wait for each other. Before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"
ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """../shared/data: real photographs with keypoints; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED / "data"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if unexpected_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for test in unexpected_skips(config):
        terminalreporter.write_line(f"ERROR: skipped, and not in tests/{ALLOWED_SKIPS.name}: {test}", red=True)


def unexpected_skips(config: pytest.Config) -> list[str]:
    """Tests that were skipped although the checking machine has all they need (CI is set, ../shared is there)."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or not SHARED.is_dir() or reporter is None:
        return []
    lines = (line.partition("#")[0].strip() for line in ALLOWED_SKIPS.read_text().splitlines())
    allowed = {line for line in lines if line}
    skipped = (report.nodeid for report in reporter.stats.get("skipped", []))
    return [test for test in skipped if test.partition("[")[0] not in allowed]

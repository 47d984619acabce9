"""Where the project and the files beside it lie, for tests in any folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""the project"""
SHARED = ROOT.parent / "shared"
"""real photographs and parity fixtures; absent on most machines"""

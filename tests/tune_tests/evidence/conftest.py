"""A search to confirm, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tune_tests.evidence.confirmations import GOOD, POOR, write_search


@pytest.fixture
def search(tmp_path: Path, space_text: str, tiny_data: Path) -> Path:
    """A search with a poor default, tried twice, that found much better values."""
    directory = tmp_path / "results" / "tiny"
    text = space_text.replace("lr = 1e-4", "lr = 1e-5").replace("d_model = 16", "d_model = 4")
    text = text.replace("[space]", '[space]\n"model.d_model" = { values = [4, 16] }')
    trials = [
        ({}, "COMPLETE", 0.4),
        (GOOD, "COMPLETE", 0.7),
        (GOOD, "COMPLETE", 0.7),
        ({}, "COMPLETE", 0.6),
        (POOR, "PRUNED", 0.3),
    ]
    write_search(directory, text, tiny_data, trials)
    return directory

"""The names under which readings of the test split are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.data.store.readings import read_readings
from tune.evidence.readings import note_evaluation, note_reading


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("demo-train", "demo-train"),
        ("demo/trials/007", "demo/007"),
        ("demo/images/trials/007", "demo/007"),
        ("demo/confirm/runs/007-s1", "demo/007-s1"),
        ("demo/confirm/final/runs/007-s1", "demo/007-s1 (train+val)"),
    ],
)
def test_a_checkpoint_is_named_by_its_search_and_folder(tmp_path: Path, folder: str, name: str) -> None:
    checkpoint = tmp_path / folder / "best.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    assert f"has been read once: {name} on " in note_evaluation(tmp_path, checkpoint)


def test_trainings_of_one_configuration_are_one_reading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders = [tmp_path / f"demo/confirm/final/runs/007-s{seed}" for seed in (1, 2, 3)]
    for folder in folders[:2]:  # the third has failed
        folder.mkdir(parents=True)
        (folder / "best.pt").write_text(folder.name)
    note_reading(tmp_path, "007", folders)
    note_reading(tmp_path, "008", [tmp_path / "demo/confirm/runs/008-s1"])
    (reading,) = read_readings(tmp_path)
    assert reading.result == "demo/007 (train+val)" and len(set(reading.weights)) == 2
    assert any("has been read once: demo/007 (train+val) on" in line for line in caplog.messages)

"""metrics.csv as a spreadsheet reads it."""

from __future__ import annotations

import csv
from pathlib import Path

from nmt.training.logger import Run
from nmt.training.loggers.csv_log import CsvLog


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_a_row_per_epoch_also_after_a_resume_that_has_new_metrics(tmp_path: Path) -> None:
    log = CsvLog(Run(directory=tmp_path, root=tmp_path, config={}))
    for epoch in (1, 2, 3):
        log.scalars({"val/accuracy": epoch / 10, "decode/assignment": "argmax"}, epoch)
    log.close()
    history = ({"epoch": 1, "val/accuracy": 0.1},)
    resumed = CsvLog(Run(directory=tmp_path, root=tmp_path, config={}, history=history))
    resumed.scalars({"val/accuracy": 0.7, 'val/accuracy/it\'s, "quoted"': 0.5}, 2)
    resumed.close()
    found = rows(tmp_path)
    assert [(row["epoch"], row["val/accuracy"]) for row in found] == [("1", "0.1"), ("2", "0.7")]
    assert [row['val/accuracy/it\'s, "quoted"'] for row in found] == ["", "0.5"]
    assert list(tmp_path.iterdir()) == [tmp_path / "metrics.csv"]

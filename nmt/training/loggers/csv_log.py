"""The metrics of every epoch as a table for spreadsheets: metrics.csv, the numbers of metrics.jsonl."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from nmt.io.files import atomic_write
from nmt.training.files import TABLE
from nmt.training.logger import Run


class CsvLog:
    """metrics.csv of one training: a row per epoch, a column per metric. Written whole after each epoch."""

    def __init__(self, run: Run) -> None:
        self._path = run.directory / TABLE
        self._rows: list[Mapping[str, Any]] = list(run.history)

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Add the row of an epoch."""
        self._rows = [row for row in self._rows if row["epoch"] < epoch] + [{"epoch": epoch, **values}]
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self._rows)
        with atomic_write(self._path) as file:
            file.write(text.getvalue().encode())

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        """Leave pictures out: a table has none."""

    def close(self) -> None:
        """Do nothing: every row is written."""

"""TensorBoard: scalars by epoch and a picture of matched pairs, in the directory of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class TensorBoardLog:
    """Event files of one run; the step of every value is the epoch, so that runs of other batch sizes compare.

    Args:
        first_epoch: where a resumed run goes on; what an interrupted run wrote past it is purged from the curves.
    """

    def __init__(self, directory: Path, *, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=first_epoch if first_epoch > 1 else None)

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Every number among `values` under its own name; strings are left out."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int) -> None:
        """A uint8 picture."""
        self._writer.add_image(name, image_HW3, epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

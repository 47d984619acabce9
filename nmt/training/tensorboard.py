"""TensorBoard log of a training: scalars per epoch, and a picture of matched pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class TensorBoardLog:
    """Event files of one run. The step of every value is the epoch, so that runs with other batch sizes compare.

    Args:
        directory: folder of the run.
        first_epoch: epoch at which a resumed run starts; values that an interrupted run wrote past it are dropped.
    """

    def __init__(self, directory: Path, *, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=first_epoch if first_epoch > 1 else None)

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Log every number among `values` under its name; strings are left out."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int) -> None:
        """Log a picture, uint8."""
        self._writer.add_image(name, image_HW3, epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

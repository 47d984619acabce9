"""The metrics and pictures of a training in Weights & Biases; WANDB_MODE=offline keeps them in its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from nmt.training.logger import Run, new_id

PROJECT = "nmt"
"""W&B project, unless WANDB_PROJECT names another"""


class WandbLog:
    """A run of W&B. A resumed training continues its run."""

    def __init__(self, run: Run) -> None:
        import wandb

        self._wandb = wandb
        known, keep = run.identity("wandb")
        name = known or new_id()
        keep(name)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            group=run.group,
            name=run.name,
            id=name,
            resume="allow",
            dir=run.directory,
            config=dict(run.config),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for metrics in () if known else run.history:  # the logger was added when the training was resumed
            self.scalars({key: value for key, value in metrics.items() if key != "epoch"}, metrics["epoch"])

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Log the metrics of an epoch."""
        self._run.log({**values, "epoch": epoch}, step=epoch)

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        """Log a picture with its caption."""
        self._run.log({f"pictures/{name}": self._wandb.Image(image_HW3, caption=caption)}, step=epoch)

    def close(self) -> None:
        """Finish the run, which uploads what is left."""
        self._run.finish()

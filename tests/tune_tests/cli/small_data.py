"""A raw WILLOW data set of random photographs, and settings under which a training takes a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

SMALL = [
    "--set", "data.image_size=64", "--set", "data.eval_pairs=4", "--set", "data.pairs_per_step=2",
    "--set", "model.weights=random", "--set", "model.d_model=16", "--set", "model.decoder_layers=1",
    "--set", "train.epochs=2", "--set", "train.steps_per_epoch=2", "--set", "optim.milestones=[1]",
]  # fmt: skip


def write_willow(raw: Path, *, categories=("Car", "Duck"), images: int = 8) -> None:
    rng = np.random.default_rng(0)
    for category in categories:
        (raw / category).mkdir(parents=True)
        for k in range(images):
            Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(raw / category / f"{k:03}.png")
            scipy.io.savemat(raw / category / f"{k:03}.mat", {"pts_coord": rng.uniform(5, 55, (2, 10))})

"""A folder of pictures of one's own: 24 photographs of a bird with four keypoints, and one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("beak", "eye", "foot", "tail")


def write_own(raw: Path, *, images: int = 24, splits: Sequence[str] = ("train", "train", "val", "test")) -> None:
    """Write photographs of noise; they take the splits in turn."""
    rng, rows = np.random.default_rng(0), ["image,category,keypoint,x,y,split"]
    raw.mkdir()
    for k in range(images):
        split = splits[k % len(splits)]
        Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(raw / f"{k:02}.png")
        rows += [f"{k:02}.png,bird,{n},{rng.uniform(4, 124):.1f},{rng.uniform(4, 92):.1f},{split}" for n in NAMES]
    (raw / "points.csv").write_text("\n".join(rows) + "\n")

"""A small data set made on the spot, for the tests of the data path; its fixtures are in conftest.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmt.data.store import OBJECTS_FILE, SPLITS, ObjectStore, ObjectWriter, RawObject, StoreInfo

TOY_NAMES = {"chair": [f"c{k}" for k in range(10)], "plane": [f"p{k}" for k in range(8)]}
TOY_SIZE = 64


def toy_objects(*, views: int = 1) -> list[RawObject]:
    """30 photographs a category, 20 train, 5 val, 5 test; 6 to all keypoints each."""
    rng = np.random.default_rng(0)
    objects = []
    for category, names in TOY_NAMES.items():
        for k in range(30):
            for view in range(views):
                num = int(rng.integers(6, len(names) + 1))
                points = {names[i]: tuple(rng.random(2) * TOY_SIZE) for i in rng.permutation(len(names))[:num]}
                image = rng.integers(0, 256, (TOY_SIZE, TOY_SIZE, 3), dtype=np.uint8)
                photo = f"{category}/{k}"
                split = SPLITS[0 if k < 20 else 1 if k < 25 else 2]
                objects.append(RawObject(f"{photo}@{view}", category, split, photo, image, points))
    return objects


def write_toy(directory: Path, objects: list[RawObject], *, image_coding: str = "raw") -> ObjectStore:
    directory.mkdir(parents=True, exist_ok=True)
    writer = ObjectWriter(directory / OBJECTS_FILE, TOY_NAMES, image_size=TOY_SIZE, image_coding=image_coding)
    for raw in objects:
        writer.add(raw)
    info = StoreInfo(
        name="toy",
        keypoint_names=TOY_NAMES,
        image_size=TOY_SIZE,
        image_coding=image_coding,
        options={},
        seed=0,
        fingerprint="0",
        counts=writer.counts,
        left_out={},
    )
    writer.finish(info)
    writer.close()
    return ObjectStore.open(directory)

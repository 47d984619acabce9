"""Augmented views of single objects, for stored features: features mode trains on images seen once by the backbone.

View 0 of an object is the object as stored, and what evaluation uses. The others are augmented as a training pair's
images are (nmt/data/augment.py, nmt/data/geometry.py), each a pure function of (data set, configuration, row, view).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmt.config import DataConfig
from nmt.data.augment import geometry
from nmt.data.augment.pair import augment_pair
from nmt.data.augment.seeding import VIEWS, generator
from nmt.data.store import MIN_KEYPOINTS, SPLITS, ObjectStore

AUGMENTATIONS = ("erasing", "cutmix", "mixup", "rotation", "mirror", "scale")
"""the configuration keys of data.* that a view depends on"""


@dataclass(frozen=True)
class ViewOptions:
    """Which views a table of features holds."""

    num: int = 1
    """views an object; 1: the plain one alone"""
    augmentation: tuple[float, ...] = ()
    """values of AUGMENTATIONS; none for the plain view alone"""

    @classmethod
    def of(cls, config: DataConfig) -> ViewOptions:
        if config.views == 1:
            return cls()
        return cls(config.views, tuple(float(getattr(config, name)) for name in AUGMENTATIONS))

    @property
    def suffix(self) -> str:
        """What tells the file from those of other views."""
        if self.num == 1:
            return ""
        return f"-{self.num}views-{hashlib.sha256(json.dumps(self.augmentation).encode()).hexdigest()[:6]}"

    def to_dict(self) -> dict[str, Any]:
        return {"views": self.num, "augmentation": dict(zip(AUGMENTATIONS, self.augmentation, strict=False))}


@dataclass(frozen=True)
class ObjectView:
    image_HW3: np.ndarray
    points_N2: np.ndarray
    """float32, all the object's keypoints; those that are not visible anywhere"""
    visible_N: np.ndarray
    """bool"""
    mirrored: bool


class ViewMaker:
    """Makes the views of a data set's objects."""

    def __init__(self, store: ObjectStore, options: ViewOptions) -> None:
        self.store = store
        augmentation = dict(zip(AUGMENTATIONS, options.augmentation, strict=False))
        self._config = dataclasses.replace(DataConfig(image_size=store.info.image_size), **augmentation)  # type: ignore[arg-type]
        self._rows = [np.concatenate(store.rows(split)) for split in SPLITS]

    def __call__(self, row: int, view: int) -> ObjectView:
        image_HW3, points_N2 = self.store.image(row), self.store.points(row)
        everything_N = np.ones(len(points_N2), bool)
        if view == 0:
            return ObjectView(image_HW3, points_N2, everything_N, mirrored=False)
        rng = generator(0, VIEWS, row, view)
        move = geometry.draw_similarity(rng, self._config)
        visible_N = everything_N
        if move is not None:
            moved_N2 = move.points(points_N2)
            inside_N = geometry.inside(moved_N2, self.store.info.image_size)
            if inside_N.sum() >= MIN_KEYPOINTS:
                image_HW3, points_N2, visible_N = move.image(image_HW3), moved_N2, inside_N
            else:
                move = None
        others = self._rows[self.store.split[row]]
        augmented = augment_pair(
            rng,
            image_HW3,
            image_HW3,
            points_N2[visible_N],
            other_image=lambda: self.store.image(int(others[rng.integers(len(others))])),
            config=self._config,
        )
        seen_N = visible_N.copy()
        seen_N[visible_N] = augmented.keep_N
        return ObjectView(augmented.image0_HW3, points_N2, seen_N, move is not None and move.mirrored)

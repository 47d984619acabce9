"""Augmented views of single objects, for stored features.

Features mode runs the backbone once per stored image, so augmentation must happen before. View 0 is the object as
stored; evaluation uses it alone. The other views are augmented as the images of a training pair are
(nmt/data/augment). Each is a pure function of (data set, augmentation, row, view).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from nmt.config import DataConfig
from nmt.data.augment import geometry
from nmt.data.augment.pair import augment_pair
from nmt.data.augment.seeding import VIEWS, generator
from nmt.data.store.features import AUGMENTATIONS, ViewOptions
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS, ObjectStore


@dataclass(frozen=True)
class ObjectView:
    """One view of an object."""

    image_HW3: np.ndarray
    """uint8"""
    points_N2: np.ndarray
    """float32, pixels, all keypoints of the object; invisible ones may lie anywhere"""
    visible_N: np.ndarray
    """bool, keypoints that are inside the image and not covered"""
    mirrored: bool
    """True: left and right are swapped, so paired keypoints change names"""


class ViewMaker:
    """Maker of the views of a data set's objects."""

    def __init__(self, store: ObjectStore, options: ViewOptions) -> None:
        self.store = store
        augmentation = dict(zip(AUGMENTATIONS, options.augmentation, strict=False))
        self._config = dataclasses.replace(DataConfig(image_size=store.info.image_size), **augmentation)  # type: ignore[arg-type]
        self._rows = [np.concatenate(store.rows(split)) for split in SPLITS]

    def __call__(self, row: int, view: int) -> ObjectView:
        """Make a view of the object in a row; view 0 is the object as stored."""
        image_HW3, points_N2 = self.store.image(row), self.store.points(row)
        everything_N = np.ones(len(points_N2), bool)
        if view == 0:
            return ObjectView(image_HW3, points_N2, everything_N, mirrored=False)
        rng = generator(0, VIEWS, row, view)
        move = geometry.draw_transform(rng, self._config)
        visible_N = everything_N
        if move is not None:
            moved_N2 = move.points(points_N2)
            inside_N = geometry.inside(moved_N2, self.store.info.image_size)
            if inside_N.sum() >= MIN_KEYPOINTS:
                image_HW3, points_N2, visible_N = move.image(image_HW3), moved_N2, inside_N
            else:  # it would leave no pair to train on
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

"""The pair stream: which objects meet, which of their keypoints, in which order, as padded batches.

A training pair is a pure function of (data set, seed, epoch, index): it is drawn from a Philox generator whose key is
the seed and whose counter is (epoch, index), so it does not matter which process draws it, in which order, or after
which restart. Letters as in nmt/batch.py; ids are indices into the category's keypoint names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from nmt.batch import PairBatch
from nmt.config import DataConfig
from nmt.data.augment import geometry
from nmt.data.augment.geometry import Transform
from nmt.data.augment.pair import augment_pair
from nmt.data.augment.seeding import TRAIN, generator
from nmt.data.store.features import FeatureTable
from nmt.data.store.objects import MIN_KEYPOINTS, ObjectStore
from nmt.data.store.present import prepare_command
from nmt.data.stream.collate import PairIds, ShownObject, collate, positions
from nmt.data.stream.sampler import pair_sampler
from nmt.errors import UserError


class PairStream:
    """The training stream.

    Args:
        config: the data branch; `mode` decides whether batches carry images (augmented) or stored features.
        features: the table of features of the store's objects; in features mode.
    """

    def __init__(
        self, store: ObjectStore, config: DataConfig, *, split: str, seed: int, features: FeatureTable | None = None
    ) -> None:
        self.store, self.config, self.seed = store, config, seed
        self.features = check_inputs(store, config, features)
        self.sampler = pair_sampler(store, split)

    def batch(self, epoch: int, indices: Sequence[int]) -> PairBatch:
        """The pairs `indices` of an epoch, padded to the longest of them or to `data.pad_keypoints`."""
        if self.features is not None:
            drawn = [self._feature_pair(epoch, k) for k in indices]
            images = None
        else:
            size = self.config.image_size
            # One block: of two, the C library would give one back to the system at each batch, and fetch it again.
            both = np.empty((2, len(indices), size, size, 3), np.uint8)
            images = both[0], both[1]
            drawn = [self._image_pair(epoch, k, images[0][b], images[1][b]) for b, k in enumerate(indices)]
        pairs, seen = zip(*drawn, strict=True)
        width = self.config.pad_keypoints
        return collate(self.store, pairs, features=self.features, images=images, seen=seen, width=width)

    def pair_ids(self, epoch: int, index: int) -> PairIds:
        """Which objects and keypoints a pair of the stream is made of, in images mode."""
        size = self.config.image_size
        out0_HW3, out1_HW3 = np.empty((2, size, size, 3), np.uint8)
        return self._image_pair(epoch, index, out0_HW3, out1_HW3)[0]

    def _feature_pair(self, epoch: int, index: int) -> tuple[PairIds, tuple[ShownObject | None, ShownObject | None]]:
        """A pair, and a random view of each object where the table has several."""
        rng = generator(self.seed, TRAIN, epoch, index)
        pair = self.sampler.draw(rng)
        features = self.features
        if features is None or features.views == 1:
            return pair, (None, None)
        views = rng.integers(features.views, size=2).tolist()
        rows = pair.row0, pair.row1
        mirrored = [features.mirrored(row, view) for row, view in zip(rows, views, strict=True)]
        mirror = self.store.mirror(pair.category)
        if mirror is not None and mirrored[0] != mirrored[1]:
            swapped = swap_names(pair, mirror)
            if swapped is None:
                return pair, (None, None)
            pair = swapped
        visible0, visible1 = (features.visible(row, view) for row, view in zip(rows, views, strict=True))
        keep_N = visible0[positions(self.store, pair.row0, pair.keypoints0)]
        keep_N &= visible1[positions(self.store, pair.row1, pair.keypoints1)][pair.match_N]
        if keep_N.sum() < MIN_KEYPOINTS:
            return self.sampler.draw(generator(self.seed, TRAIN, epoch, index)), (None, None)
        seen0, seen1 = (ShownObject(features.points(row, view), view) for row, view in zip(rows, views, strict=True))
        return pair.keep(keep_N), (seen0, seen1)

    def _image_pair(
        self, epoch: int, index: int, out0_HW3: np.ndarray, out1_HW3: np.ndarray
    ) -> tuple[PairIds, tuple[ShownObject | None, ShownObject | None]]:
        rng = generator(self.seed, TRAIN, epoch, index)
        pair = self.sampler.draw(rng)
        pair, moves = self._move(rng, pair)
        image0_HW3, seen0 = self._seen(pair.row0, moves[0])
        image1_HW3, seen1 = self._seen(pair.row1, moves[1])
        points0_N2 = self.store.points(pair.row0) if seen0 is None else seen0.points_N2
        augmented = augment_pair(
            rng,
            image0_HW3,
            image1_HW3,
            points0_N2[positions(self.store, pair.row0, pair.keypoints0)],
            other_image=lambda: self.store.image(self.sampler.draw_row(rng)),
            config=self.config,
            out=(out0_HW3, out1_HW3),
        )
        for out_HW3, image_HW3 in ((out0_HW3, augmented.image0_HW3), (out1_HW3, augmented.image1_HW3)):
            if image_HW3 is not out_HW3:
                out_HW3[:] = image_HW3
        return pair.keep(augmented.keep_N), (seen0, seen1)

    def _move(
        self, rng: np.random.Generator, pair: PairIds
    ) -> tuple[PairIds, tuple[Transform | None, Transform | None]]:
        """How both images are moved, and the keypoints that are left; a move that leaves fewer than two is not made."""
        if not geometry.is_on(self.config):
            return pair, (None, None)
        move0, move1 = (geometry.draw_transform(rng, self.config) for _ in range(2))
        mirror = self.store.mirror(pair.category)
        if mirror is not None and _mirrored(move0) != _mirrored(move1):
            swapped = swap_names(pair, mirror)
            if swapped is None:  # the names on the two sides have nothing in common any more
                return pair, (None, None)
            pair = swapped
        pair, move0 = self._keep_inside(pair, pair.row0, pair.keypoints0, move0, np.arange(len(pair.keypoints0)))
        pair, move1 = self._keep_inside(pair, pair.row1, pair.keypoints1, move1, pair.match_N)
        return pair, (move0, move1)

    def _keep_inside(
        self, pair: PairIds, row: int, ids: np.ndarray, move: Transform | None, match_N: np.ndarray
    ) -> tuple[PairIds, Transform | None]:
        """The pair without the keypoints that one side's move takes out of the image; `match_N` leads to that side."""
        if move is None:
            return pair, None
        moved_N2 = move.points(self.store.points(row)[positions(self.store, row, ids)])
        keep_N = geometry.inside(moved_N2, self.config.image_size)[match_N]
        return (pair.keep(keep_N), move) if keep_N.sum() >= MIN_KEYPOINTS else (pair, None)

    def _seen(self, row: int, move: Transform | None) -> tuple[np.ndarray, ShownObject | None]:
        """The image, moved, and where its keypoints are."""
        image_HW3 = self.store.image(row)
        return (
            (image_HW3, None)
            if move is None
            else (move.image(image_HW3), ShownObject(move.points(self.store.points(row))))
        )


def _mirrored(move: Transform | None) -> bool:
    return move is not None and move.mirrored


def swap_names(pair: PairIds, mirror: np.ndarray) -> PairIds | None:
    """The pair when one image is mirrored and its names are swapped: what still matches; None for fewer than two."""
    both = np.isin(mirror[pair.keypoints0], pair.keypoints0)
    if both.sum() < MIN_KEYPOINTS:
        return None
    keypoints1 = pair.keypoints1[np.isin(mirror[pair.keypoints1], pair.keypoints1)]
    return dataclasses.replace(pair, keypoints0=pair.keypoints0[both], keypoints1=keypoints1, swap=mirror)


def check_inputs(store: ObjectStore, config: DataConfig, features: FeatureTable | None) -> FeatureTable | None:
    """The features to use, None in images mode; raises UserError when the data set does not fit the configuration."""
    if store.info.image_size != config.image_size:
        raise UserError(
            f"{store.directory}: its images are {store.info.image_size} pixels wide, but data.image_size is "
            f"{config.image_size}; set it to {store.info.image_size}, or make the data set anew with: "
            f"{prepare_command(store.info.name)} --set data.image_size={config.image_size}"
        )
    most = max(len(names) for names in store.info.keypoint_names.values())
    if 0 < config.pad_keypoints <= most:
        raise UserError(
            f"{store.directory}: objects have up to {most} keypoints, so data.pad_keypoints must be at least "
            f"{most + 1} (one is always padding) or 0, but is {config.pad_keypoints}"
        )
    if config.mode == "images":
        return None
    if features is None:
        raise ValueError("data.mode = features needs a FeatureTable")
    return features


def eval_pairs(store: ObjectStore, config: DataConfig, *, split: str, seed: int = 0) -> list[PairIds]:
    """The fixed evaluation pairs: `eval_pairs` different ordered pairs a category, or all given pairs."""
    return pair_sampler(store, split).fixed(seed, config.eval_pairs)


def eval_batches(
    store: ObjectStore,
    config: DataConfig,
    *,
    split: str,
    features: FeatureTable | None = None,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
) -> Iterator[PairBatch]:
    """This rank's share of `eval_pairs` (rank, rank + world_size, ...) in batches, never augmented."""
    features = check_inputs(store, config, features)
    pairs = eval_pairs(store, config, split=split, seed=seed)[rank::world_size]
    for first in range(0, len(pairs), batch_size):
        yield plain_batch(store, pairs[first : first + batch_size], features=features, width=config.pad_keypoints)


def plain_batch(
    store: ObjectStore, pairs: Sequence[PairIds], *, features: FeatureTable | None, width: int = 0
) -> PairBatch:
    """The given pairs as a batch, not augmented, with images where there are no features; `width` as in `collate`."""
    if features is not None:
        return collate(store, pairs, features=features, width=width)
    images0 = np.stack([store.image(pair.row0) for pair in pairs])
    images1 = np.stack([store.image(pair.row1) for pair in pairs])
    return collate(store, pairs, images=(images0, images1), width=width)

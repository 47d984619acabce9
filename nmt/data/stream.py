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
from nmt.data.augment.geometry import Similarity
from nmt.data.augment.pair import augment_pair
from nmt.data.augment.seeding import EVAL, TRAIN, generator
from nmt.data.collate import PairIds, Seen, collate, positions
from nmt.data.store.features import FeatureTable
from nmt.data.store.given_pairs import PairTable, open_pairs
from nmt.data.store.objects import MIN_KEYPOINTS, ObjectStore, prepare_command
from nmt.errors import UserError

_MAX_DRAWS = 10_000
_ENUMERATE_BELOW = 200_000
"""categories with fewer ordered pairs than this are listed whole to choose the evaluation pairs"""


class PairSampler:
    """Draws pairs as published: a category, two of its objects of different photographs, all uniformly.

    Categories without objects in the split are passed over.

    Raises:
        UserError: a category has objects of one photograph only, or the split is empty.
    """

    def __init__(self, store: ObjectStore, split: str) -> None:
        self.store, self.split = store, split
        rows = store.rows(split)
        self.categories = [c for c in range(len(rows)) if len(rows[c])]
        self.rows = {c: rows[c] for c in self.categories}
        if not self.categories:
            raise UserError(f"{store.directory}: no objects in split {split}")
        for category in self.categories:
            photos = store.photo[self.rows[category]]
            if (photos == photos[0]).all():
                name = store.info.categories[category]
                raise UserError(f"{store.directory}: category {name} has one photograph in {split}; a pair needs two")

    def fixed(self, seed: int, num: int) -> list[PairIds]:
        """The evaluation pairs: `num` different ordered pairs a category, all of them if there are fewer."""
        return [
            pair
            for category in self.categories
            for pair in self.draw_distinct(generator(seed, EVAL, category), category, num)
        ]

    def draw(self, rng: np.random.Generator) -> PairIds:
        """One random pair."""
        return self.draw_of(rng, self.categories[rng.integers(len(self.categories))])

    def draw_of(self, rng: np.random.Generator, category: int) -> PairIds:
        """One random pair of a category."""
        rows = self.rows[category]
        for _ in range(_MAX_DRAWS):
            row0, row1 = (int(rows[k]) for k in rng.integers(len(rows), size=2))
            common = self.common(row0, row1)
            if common is not None:
                return PairIds(category, row0, row1, rng.permutation(common), rng.permutation(common))
        name = self.store.info.categories[category]
        raise UserError(
            f"{self.store.directory}: no two {self.split} objects of {name} share {MIN_KEYPOINTS} keypoints"
        )

    def draw_row(self, rng: np.random.Generator) -> int:
        """One random object of the split."""
        rows = self.rows[self.categories[rng.integers(len(self.categories))]]
        return int(rows[rng.integers(len(rows))])

    def common(self, row0: int, row1: int) -> np.ndarray | None:
        """The ids both objects have, increasing; None when the two are no pair."""
        if self.store.photo[row0] == self.store.photo[row1]:
            return None
        ids0, ids1 = self.store.keypoints(row0), self.store.keypoints(row1)
        if ids0.tobytes() == ids1.tobytes():
            return ids0
        in_1 = np.zeros(max(int(ids0[-1]), int(ids1[-1])) + 1, bool)
        in_1[ids1] = True
        common = ids0[in_1[ids0]]
        return common if len(common) >= MIN_KEYPOINTS else None

    def draw_distinct(self, rng: np.random.Generator, category: int, num: int) -> list[PairIds]:
        """`num` different ordered pairs of a category, or all of them in random order if there are fewer."""
        rows = self.rows[category]
        if len(rows) ** 2 > max(_ENUMERATE_BELOW, 4 * num):
            found: dict[tuple[int, int], PairIds] = {}
            for _ in range(_MAX_DRAWS * num):
                pair = self.draw_of(rng, category)
                found.setdefault((pair.row0, pair.row1), pair)
                if len(found) == num:
                    break
            return list(found.values())
        chosen: list[PairIds] = []
        for k in rng.permutation(len(rows) ** 2):
            row0, row1 = int(rows[k // len(rows)]), int(rows[k % len(rows)])
            common = self.common(row0, row1)
            if common is not None:
                chosen.append(PairIds(category, row0, row1, rng.permutation(common), rng.permutation(common)))
            if len(chosen) == num:
                break
        return chosen


class GivenPairSampler(PairSampler):
    """Draws from the given pairs, as published: a category, one of its pairs, both uniformly.

    Evaluation takes all of them. Categories without pairs in the split are passed over.
    """

    def __init__(self, store: ObjectStore, table: PairTable, split: str) -> None:
        self.store, self.split, self.table = store, split, table
        numbers = table.of(split)
        category_P = store.category[table.row0[numbers]]
        self.categories = [int(c) for c in np.unique(category_P)]
        self.pairs = {c: numbers[category_P == c] for c in self.categories}
        self.rows = {c: np.union1d(table.row0[pairs], table.row1[pairs]) for c, pairs in self.pairs.items()}
        if not self.categories:
            raise UserError(f"{store.directory}: no given pairs in split {split}")

    def draw_of(self, rng: np.random.Generator, category: int) -> PairIds:
        """One random given pair of a category."""
        pairs = self.pairs[category]
        return self._pair(rng, category, int(pairs[rng.integers(len(pairs))]))

    def fixed(self, seed: int, num: int) -> list[PairIds]:
        """All given pairs, whatever `num`."""
        chosen = []
        for category in self.categories:
            rng = generator(seed, EVAL, category)
            chosen += [self._pair(rng, category, number) for number in self.pairs[category].tolist()]
        return chosen

    def _pair(self, rng: np.random.Generator, category: int, number: int) -> PairIds:
        row0, row1 = int(self.table.row0[number]), int(self.table.row1[number])
        ids = self.table.keypoints(number)
        return PairIds(category, row0, row1, rng.permutation(ids), rng.permutation(ids))


def pair_sampler(store: ObjectStore, split: str) -> PairSampler:
    """The sampler of a data set: of its given pairs if it has them."""
    table = open_pairs(store)
    return PairSampler(store, split) if table is None else GivenPairSampler(store, table, split)


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

    def _feature_pair(self, epoch: int, index: int) -> tuple[PairIds, tuple[Seen | None, Seen | None]]:
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
        seen0, seen1 = (Seen(features.points(row, view), view) for row, view in zip(rows, views, strict=True))
        return pair.keep(keep_N), (seen0, seen1)

    def _image_pair(
        self, epoch: int, index: int, out0_HW3: np.ndarray, out1_HW3: np.ndarray
    ) -> tuple[PairIds, tuple[Seen | None, Seen | None]]:
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
    ) -> tuple[PairIds, tuple[Similarity | None, Similarity | None]]:
        """How both images are moved, and the keypoints that are left; a move that leaves fewer than two is not made."""
        if not geometry.is_on(self.config):
            return pair, (None, None)
        move0, move1 = (geometry.draw_similarity(rng, self.config) for _ in range(2))
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
        self, pair: PairIds, row: int, ids: np.ndarray, move: Similarity | None, match_N: np.ndarray
    ) -> tuple[PairIds, Similarity | None]:
        """The pair without the keypoints that one side's move takes out of the image; `match_N` leads to that side."""
        if move is None:
            return pair, None
        moved_N2 = move.points(self.store.points(row)[positions(self.store, row, ids)])
        keep_N = geometry.inside(moved_N2, self.config.image_size)[match_N]
        return (pair.keep(keep_N), move) if keep_N.sum() >= MIN_KEYPOINTS else (pair, None)

    def _seen(self, row: int, move: Similarity | None) -> tuple[np.ndarray, Seen | None]:
        """The image, moved, and where its keypoints are."""
        image_HW3 = self.store.image(row)
        return (image_HW3, None) if move is None else (move.image(image_HW3), Seen(move.points(self.store.points(row))))


def _mirrored(move: Similarity | None) -> bool:
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

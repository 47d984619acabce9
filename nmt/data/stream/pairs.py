"""The stream of training pairs and the fixed evaluation pairs, as padded batches.

A training pair is a pure function of (data set, seed, epoch, index). It is drawn from a Philox generator whose key is
the seed and whose counter is (epoch, index). So it does not matter which process draws it, in which order, or after
which restart. Which keypoints it loses (`data.outliers`), and which object of another category it gets (`data.cross`),
is drawn from a generator of their own. Letters as in nmt/batch.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nmt.batch import PairBatch
from nmt.config import DataConfig
from nmt.data.augment import geometry
from nmt.data.augment.geometry import Transform
from nmt.data.augment.pair import augment_pair
from nmt.data.augment.seeding import DROP_PATH, LOSING, TRAIN, generator
from nmt.data.store.features import FeatureTable
from nmt.data.store.objects import MIN_KEYPOINTS, ObjectStore
from nmt.data.store.photographs import open_photographs
from nmt.data.store.ready import check_cross, check_fit
from nmt.data.stream.collate import Features, ShownObject, collate
from nmt.data.stream.outliers import cross_pair, losing_pair
from nmt.data.stream.pair import Pair, swap_names
from nmt.data.stream.sampler import pair_sampler


class PairStream:
    """The training stream of a split.

    Args:
        config: the `data` branch; its mode decides between augmented images and stored features.
        split: train or train+val, for all but tests.
        seed: the key of every draw.
        features: the table of the store's features, in features mode.
        outliers_from: epochs after which `data.outliers` and `data.cross` begin (`Config.outliers_from`); None: never.

    Raises:
        UserError: the data set does not fit the configuration (nmt.data.store.ready), or has no pairs.
    """

    def __init__(
        self,
        store: ObjectStore,
        config: DataConfig,
        *,
        split: str,
        seed: int,
        features: FeatureTable | None = None,
        outliers_from: int | None = None,
    ) -> None:
        self.store, self.config, self.seed = store, config, seed
        self.outliers_from = outliers_from
        self.features = check_fit(store, config, features)
        if outliers_from is not None:
            check_cross(store, config)
        self.sampler = pair_sampler(store, split, redraw=config.redraw, pairs=config.pairs)
        self._photographs = open_photographs(store, config)
        self._partners = None if self._photographs is None else self._photographs.of(split)

    def batch(self, epoch: int, indices: Sequence[int]) -> PairBatch:
        """Collate the pairs `indices` of an epoch, padded to the longest of them or to data.pad_keypoints."""
        if self.features is not None:
            drawn = [self._feature_pair(epoch, k) for k in indices]
            images = draws_B2 = None
        else:
            size = self.config.image_size
            # One block: of two, the C library would give one back to the system at each batch, and fetch it again.
            both = np.empty((2, len(indices), size, size, 3), np.uint8)
            images = both[0], both[1]
            drawn = [self._image_pair(epoch, k, images[0][b], images[1][b]) for b, k in enumerate(indices)]
            draws_B2 = np.stack([generator(self.seed, DROP_PATH, epoch, k).integers(2**63, size=2) for k in indices])
        pairs, seen = zip(*drawn, strict=True)
        width = self.config.pad_keypoints
        return collate(
            self.store, pairs, features=self.features, images=images, draws_B2=draws_B2, seen=seen, width=width
        )

    def pair(self, epoch: int, index: int) -> Pair:
        """Draw one pair of the stream, without collating it."""
        if self.features is not None:
            return self._feature_pair(epoch, index)[0]
        size = self.config.image_size
        out0_HW3, out1_HW3 = np.empty((2, size, size, 3), np.uint8)
        return self._image_pair(epoch, index, out0_HW3, out1_HW3)[0]

    def _draw(self, epoch: int, index: int) -> tuple[Pair, np.random.Generator, np.random.Generator | None]:
        """Draw a pair, perhaps of two categories.

        Returns:
            The pair; the generator of its views and augmentation; and that of the keypoints it loses, None for none.
        """
        rng = generator(self.seed, TRAIN, epoch, index)
        pair = self.sampler.draw(rng)
        if self.outliers_from is None or epoch < self.outliers_from:
            return pair, rng, None
        losing = generator(self.seed, LOSING, epoch, index)
        if losing.random() < self.config.cross:
            return cross_pair(self.store, self.sampler, pair, losing), rng, None
        return pair, rng, losing if losing.random() < self.config.outliers else None

    def _one_sided(self, pair: Pair) -> bool:
        """True if a keypoint that is covered or leaves its image is dropped there alone, not from both images."""
        return self.config.pairs == "union" or self._crosses(pair)

    def _crosses(self, pair: Pair) -> bool:
        return bool(self.store.category[pair.row0] != self.store.category[pair.row1])

    def _mirrored_names(self, pair: Pair, mirrored: tuple[bool, bool]) -> Pair | None:
        """Match a pair anew where one of its images is mirrored; None if its names have nothing in common any more."""
        mirror = self.store.mirror(pair.category)
        if mirror is None or mirrored[0] == mirrored[1] or self._crosses(pair):
            return pair
        return swap_names(pair, mirror, union=self.config.pairs == "union")

    def _feature_pair(self, epoch: int, index: int) -> tuple[Pair, tuple[ShownObject | None, ShownObject | None]]:
        """Draw a pair, and a random view of each object where the table has several."""
        pair, rng, losing = self._draw(epoch, index)
        pair, seen = self._views(pair, rng)
        return pair if losing is None else losing_pair(pair, losing), seen

    def _views(
        self, pair: Pair, rng: np.random.Generator
    ) -> tuple[Pair, tuple[ShownObject | None, ShownObject | None]]:
        """Draw a view of each object, and drop the keypoints that it does not show.

        Views that would leave fewer than two keypoints are not used.
        """
        features = self.features
        if features is None or features.views == 1:
            return pair, (None, None)
        views = rng.integers(features.views, size=2).tolist()
        rows = pair.row0, pair.row1
        mirrored0, mirrored1 = (features.mirrored(row, view) for row, view in zip(rows, views, strict=True))
        named = self._mirrored_names(pair, (mirrored0, mirrored1))
        if named is None:
            return pair, (None, None)
        visible0, visible1 = (features.visible(row, view) for row, view in zip(rows, views, strict=True))
        keep0_N, keep1_M = visible0[named.positions0], visible1[named.positions1]
        if self._one_sided(named):
            shown, fewest = named.keep_sides(keep0_N, keep1_M), min(keep0_N.sum(), keep1_M.sum())
        else:
            keep_N = keep0_N & keep1_M[named.match_N]
            shown, fewest = named.keep(keep_N), keep_N.sum()
        if fewest < MIN_KEYPOINTS:
            return pair, (None, None)
        seen0, seen1 = (ShownObject(features.points(row, view), view) for row, view in zip(rows, views, strict=True))
        return shown, (seen0, seen1)

    def _image_pair(
        self, epoch: int, index: int, out0_HW3: np.ndarray, out1_HW3: np.ndarray
    ) -> tuple[Pair, tuple[ShownObject | None, ShownObject | None]]:
        """Draw a pair and write its augmented images into `out0_HW3` and `out1_HW3`."""
        pair, rng, losing = self._draw(epoch, index)
        pair, moves = self._move(rng, pair)
        image0_HW3, seen0 = self._seen(pair.row0, moves[0])
        image1_HW3, seen1 = self._seen(pair.row1, moves[1])
        points0_N2 = self.store.points(pair.row0) if seen0 is None else seen0.points_N2
        augmented = augment_pair(
            rng,
            image0_HW3,
            image1_HW3,
            points0_N2[pair.positions0],
            other_image=lambda: self._partner(rng),
            config=self.config,
            out=(out0_HW3, out1_HW3),
        )
        for out_HW3, image_HW3 in ((out0_HW3, augmented.image0_HW3), (out1_HW3, augmented.image1_HW3)):
            if image_HW3 is not out_HW3:
                out_HW3[:] = image_HW3
        one_sided = self._one_sided(pair)
        pair = pair.keep_side(0, augmented.keep_N) if one_sided else pair.keep(augmented.keep_N)
        return pair if losing is None else losing_pair(pair, losing), (seen0, seen1)

    def _partner(self, rng: np.random.Generator) -> np.ndarray:
        """Draw an image to mix in: a whole photograph of the split, or an object of it."""
        if self._photographs is None or self._partners is None:
            return self.store.image(self.sampler.draw_row(rng))
        return self._photographs.image(int(self._partners[rng.integers(len(self._partners))]))

    def _move(self, rng: np.random.Generator, pair: Pair) -> tuple[Pair, tuple[Transform | None, Transform | None]]:
        """Draw the transforms of both images, and drop the keypoints that leave them.

        A transform that would leave fewer than two keypoints is not applied.
        """
        if not geometry.is_on(self.config):
            return pair, (None, None)
        move0, move1 = (geometry.draw_transform(rng, self.config) for _ in range(2))
        named = self._mirrored_names(pair, (_mirrored(move0), _mirrored(move1)))
        if named is None:
            return pair, (None, None)
        pair, move0 = self._keep_inside(named, 0, move0)
        pair, move1 = self._keep_inside(pair, 1, move1)
        return pair, (move0, move1)

    def _keep_inside(self, pair: Pair, side: int, move: Transform | None) -> tuple[Pair, Transform | None]:
        """Drop the keypoints that the transform of a side takes out of its image; cancel one that leaves too few."""
        if move is None:
            return pair, None
        row, positions_V = ((pair.row0, pair.positions0), (pair.row1, pair.positions1))[side]
        keep_V = geometry.inside(move.points(self.store.points(row)[positions_V]), self.config.image_size)
        if keep_V.sum() < MIN_KEYPOINTS:
            return pair, None
        if self._one_sided(pair):
            return pair.keep_side(side, keep_V), move
        return pair.keep(keep_V if side == 0 else keep_V[pair.match_N]), move

    def _seen(self, row: int, move: Transform | None) -> tuple[np.ndarray, ShownObject | None]:
        """Return the image after a transform, and where its keypoints are then."""
        image_HW3 = self.store.image(row)
        return (
            (image_HW3, None)
            if move is None
            else (move.image(image_HW3), ShownObject(move.points(self.store.points(row))))
        )


def _mirrored(move: Transform | None) -> bool:
    return move is not None and move.mirrored


def eval_pairs(store: ObjectStore, config: DataConfig, *, split: str, seed: int = 0) -> list[Pair]:
    """List the fixed evaluation pairs: `config.eval_pairs` different ordered pairs per category, or all given pairs."""
    return pair_sampler(store, split, pairs=config.pairs).fixed(seed, config.eval_pairs)


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
    """Yield this rank's share of `eval_pairs` (rank, rank + world_size, ...) in batches, never augmented."""
    features = check_fit(store, config, features)
    pairs = eval_pairs(store, config, split=split, seed=seed)[rank::world_size]
    for first in range(0, len(pairs), batch_size):
        yield plain_batch(store, pairs[first : first + batch_size], features=features, width=config.pad_keypoints)


def plain_batch(store: ObjectStore, pairs: Sequence[Pair], *, features: Features | None, width: int = 0) -> PairBatch:
    """Collate pairs without augmentation, with images if there are no features; `width` as in `collate`."""
    if features is not None:
        return collate(store, pairs, features=features, width=width)
    images0 = np.stack([store.image(pair.row0) for pair in pairs])
    images1 = np.stack([store.image(pair.row1) for pair in pairs])
    return collate(store, pairs, images=(images0, images1), width=width)

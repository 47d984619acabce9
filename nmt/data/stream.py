"""The pair stream: which objects meet, which of their keypoints, in which order, as padded batches.

A training pair is a pure function of (data set, seed, epoch, index): it is drawn from a Philox generator whose key is
the seed and whose counter is (epoch, index), so it does not matter which process draws it, in which order, or after
which restart. Letters as in nmt/batch.py; ids are indices into the category's keypoint names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nmt.batch import PairBatch, View
from nmt.config import DataConfig
from nmt.data.augment import augment_pair
from nmt.data.features import FeatureTable
from nmt.data.graph import edge_attributes, remembered_edges
from nmt.data.pairs import PairTable, open_pairs
from nmt.data.store import MIN_KEYPOINTS, ObjectStore, prepare_command
from nmt.errors import UserError

_TRAIN, _EVAL = 0, 1
"""keep the draws of training and evaluation apart under one seed"""
_MAX_DRAWS = 10_000
_ENUMERATE_BELOW = 200_000
"""categories with fewer ordered pairs than this are listed whole to choose the evaluation pairs"""


@dataclass(frozen=True)
class PairIds:
    """Two objects and their common keypoints, each side in its own random order."""

    category: int
    row0: int
    row1: int
    keypoints0: np.ndarray
    """(N,) int16 ids, source order"""
    keypoints1: np.ndarray
    """(N,) int16, the same ids in target order"""

    @property
    def match_N(self) -> np.ndarray:
        """(N,) int64: for each source keypoint the position of the same keypoint in the target."""
        match_N = np.empty(len(self.keypoints0), np.int64)
        match_N[self.keypoints0.argsort()] = self.keypoints1.argsort()
        return match_N

    def keep(self, keep_N: np.ndarray) -> PairIds:
        """Without the source keypoints where `keep_N` is False, on both sides."""
        if keep_N.all():
            return self
        keep1_N = np.empty_like(keep_N)
        keep1_N[self.match_N] = keep_N
        return dataclasses.replace(self, keypoints0=self.keypoints0[keep_N], keypoints1=self.keypoints1[keep1_N])


def generator(seed: int, purpose: int, *counter: int) -> np.random.Generator:
    """The generator of one draw; `counter` up to two numbers."""
    return np.random.Generator(
        np.random.Philox(key=[seed, purpose], counter=[0, 0, *counter, *[0] * (2 - len(counter))])
    )


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
            for pair in self.draw_distinct(generator(seed, _EVAL, category), category, num)
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
        common = np.array(sorted(set(ids0.tolist()) & set(ids1.tolist())), np.int16)
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
            rng = generator(seed, _EVAL, category)
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
        """The pairs `indices` of an epoch, padded to the longest of them."""
        if self.features is not None:
            pairs = [self.sampler.draw(generator(self.seed, _TRAIN, epoch, k)) for k in indices]
            return collate(self.store, pairs, features=self.features)
        size = self.config.image_size
        images0, images1 = (np.empty((len(indices), size, size, 3), np.uint8) for _ in range(2))
        pairs = [self._image_pair(epoch, k, images0[b], images1[b]) for b, k in enumerate(indices)]
        return collate(self.store, pairs, images=(images0, images1))

    def _image_pair(self, epoch: int, index: int, out0_HW3: np.ndarray, out1_HW3: np.ndarray) -> PairIds:
        rng = generator(self.seed, _TRAIN, epoch, index)
        pair = self.sampler.draw(rng)
        augmented = augment_pair(
            rng,
            self.store.image(pair.row0),
            self.store.image(pair.row1),
            self.store.points(pair.row0)[positions(self.store, pair.row0, pair.keypoints0)],
            other_image=lambda: self.store.image(self.sampler.draw_row(rng)),
            config=self.config,
        )
        out0_HW3[:], out1_HW3[:] = augmented.image0_HW3, augmented.image1_HW3
        return pair.keep(augmented.keep_N)


def check_inputs(store: ObjectStore, config: DataConfig, features: FeatureTable | None) -> FeatureTable | None:
    """The features to use, None in images mode; raises UserError when the data set does not fit the configuration."""
    if store.info.image_size != config.image_size:
        raise UserError(
            f"{store.directory}: its images are {store.info.image_size} pixels wide, but data.image_size is "
            f"{config.image_size}; set it to {store.info.image_size}, or make the data set anew with: "
            f"{prepare_command(store.info.name)} --set data.image_size={config.image_size}"
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
        yield plain_batch(store, pairs[first : first + batch_size], features=features)


def plain_batch(store: ObjectStore, pairs: Sequence[PairIds], *, features: FeatureTable | None) -> PairBatch:
    """The given pairs as a batch, not augmented, with images where there are no features."""
    if features is not None:
        return collate(store, pairs, features=features)
    images0 = np.stack([store.image(pair.row0) for pair in pairs])
    images1 = np.stack([store.image(pair.row1) for pair in pairs])
    return collate(store, pairs, images=(images0, images1))


def collate(
    store: ObjectStore,
    pairs: Sequence[PairIds],
    *,
    features: FeatureTable | None = None,
    images: tuple[np.ndarray, np.ndarray] | None = None,
) -> PairBatch:
    """Pairs, with their features or their images (B, H, W, 3), as one padded batch."""
    num_B = np.array([len(pair.keypoints0) for pair in pairs], np.int64)
    match_BN = np.full((len(pairs), num_B.max(initial=0)), -1, np.int64)
    for b, pair in enumerate(pairs):
        match_BN[b, : num_B[b]] = pair.match_N
    sides = (
        [(pair.row0, pair.keypoints0) for pair in pairs],
        [(pair.row1, pair.keypoints1) for pair in pairs],
    )
    source, target = (
        collate_view(store, side, num_B, features=features, images_BHW3=images[s] if images else None)
        for s, side in enumerate(sides)
    )
    category_B = np.array([pair.category for pair in pairs], np.int64)
    return PairBatch(source, target, torch.from_numpy(match_BN), torch.from_numpy(category_B))


def collate_view(
    store: ObjectStore,
    objects: Sequence[tuple[int, np.ndarray]],
    num_B: np.ndarray,
    *,
    features: FeatureTable | None,
    images_BHW3: np.ndarray | None,
) -> View:
    """One side of the pairs: (row, keypoint ids in order) each."""
    shape = (len(objects), int(num_B.max(initial=0)))
    points_BN2 = np.zeros((*shape, 2), np.float32)
    nodes_BNC = np.zeros((*shape, features.channels), np.float16) if features else None
    global_BG = np.empty((len(objects), features.global_channels), np.float32) if features else None
    edges = [np.empty((2, 0), np.int64)]
    for b, (row, ids) in enumerate(objects):
        order = positions(store, row, ids)
        points_BN2[b, : len(ids)] = store.points(row)[order]
        edges.append(graph(store, row, order) + b * shape[1])
        if features is not None and nodes_BNC is not None and global_BG is not None:
            nodes_BNC[b, : len(ids)] = features.nodes(row)[order]
            global_BG[b] = features.global_feature(row)
    edges_2E = np.concatenate(edges, axis=1)
    attr_E2 = edge_attributes(points_BN2.reshape(-1, 2), edges_2E, store.info.image_size)
    return View(
        torch.from_numpy(points_BN2),
        torch.from_numpy(num_B),
        torch.from_numpy(edges_2E),
        torch.from_numpy(attr_E2),
        # A permuted view: channels last in memory, which is what convolutions prefer, and no copy.
        image_B3HW=torch.from_numpy(images_BHW3).permute(0, 3, 1, 2) if images_BHW3 is not None else None,
        nodes_BNC=torch.from_numpy(nodes_BNC) if nodes_BNC is not None else None,
        global_BG=torch.from_numpy(global_BG) if global_BG is not None else None,
    )


def positions(store: ObjectStore, row: int, ids: np.ndarray) -> np.ndarray:
    """Where the keypoints `ids` stand among the object's."""
    return store.keypoints(row).searchsorted(ids)


def graph(store: ObjectStore, row: int, order: np.ndarray) -> np.ndarray:
    """(2, E) int64: the graph over the object's keypoints at positions `order`, numbered in that order.

    It is triangulated in stored order, so that it does not depend on the shuffling; all keypoints: the stored edges.
    """
    by_position = order.argsort()
    points_N2 = store.points(row)
    complete = len(order) == len(points_N2)
    edges_2E = store.edges(row) if complete else remembered_edges(points_N2[order[by_position]].tobytes())
    numbered_2E: np.ndarray = by_position[edges_2E]
    return numbered_2E

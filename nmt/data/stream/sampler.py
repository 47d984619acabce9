"""Draw pairs: which two objects, and in which order their common keypoints appear."""

from __future__ import annotations

import numpy as np

from nmt.data.augment.seeding import EVAL, generator
from nmt.data.store.given_pairs import PairTable, open_pairs
from nmt.data.store.objects import MIN_KEYPOINTS, ObjectStore
from nmt.data.stream.pair import Pair, make_pair
from nmt.errors import UserError

_MAX_DRAWS = 10_000
_ENUMERATE_BELOW = 200_000
"""ordered pairs of a category up to which all are listed to choose the evaluation pairs"""


class PairSampler:
    """Sampler of random pairs: a category, then two of its objects, uniformly, as published.

    Two objects of one photograph share background and light. The published code pairs them. Here two other objects of
    the category are drawn. Categories without objects in the split are skipped.

    Args:
        redraw: what is drawn again where the two share too few keypoints, see `data.redraw`.
        union: pairs show all keypoints of either object, see `data.pairs`.

    Raises:
        UserError: a category has objects of one photograph only, or the split is empty.
    """

    def __init__(self, store: ObjectStore, split: str, *, redraw: str = "objects", union: bool = False) -> None:
        self.store, self.split, self._redraw, self._union = store, split, redraw, union
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

    def fixed(self, seed: int, num: int) -> list[Pair]:
        """List the evaluation pairs: `num` different ordered pairs per category, or all if there are fewer."""
        return [
            pair
            for category in self.categories
            for pair in self.draw_distinct(generator(seed, EVAL, category), category, num)
        ]

    def draw(self, rng: np.random.Generator) -> Pair:
        """Draw one random pair. Raises UserError if no two objects share enough keypoints."""
        category = self._draw_category(rng)
        for _ in range(_MAX_DRAWS):
            pair = self._try(rng, category)
            if pair is not None:
                return pair
            category = self._draw_category(rng) if self._redraw == "category" else category
        raise self._no_pair(category)

    def draw_of(self, rng: np.random.Generator, category: int) -> Pair:
        """Draw one random pair of a category. Raises UserError if no two objects share enough keypoints."""
        for _ in range(_MAX_DRAWS):
            pair = self._try(rng, category)
            if pair is not None:
                return pair
        raise self._no_pair(category)

    def _draw_category(self, rng: np.random.Generator) -> int:
        return self.categories[rng.integers(len(self.categories))]

    def _try(self, rng: np.random.Generator, category: int) -> Pair | None:
        """Draw two objects of different photographs of a category; None if they share too few keypoints."""
        rows = self.rows[category]
        for _ in range(_MAX_DRAWS):
            row0, row1 = (int(rows[k]) for k in rng.integers(len(rows), size=2))
            if self.store.photo[row0] != self.store.photo[row1]:
                common = self.common(row0, row1)
                return None if common is None else self._make(rng, category, row0, row1, common)
        return None

    def _make(self, rng: np.random.Generator, category: int, row0: int, row1: int, common_N: np.ndarray) -> Pair:
        return make_pair(self.store, category, row0, row1, common_N, rng, union=self._union)

    def _no_pair(self, category: int) -> UserError:
        name = self.store.info.categories[category]
        return UserError(
            f"{self.store.directory}: no two {self.split} objects of {name} share {MIN_KEYPOINTS} keypoints"
        )

    def draw_row(self, rng: np.random.Generator) -> int:
        """Draw one random object of the split."""
        rows = self.rows[self.categories[rng.integers(len(self.categories))]]
        return int(rows[rng.integers(len(rows))])

    def common(self, row0: int, row1: int) -> np.ndarray | None:
        """Return the ids that both objects have, increasing; None if the two cannot be a pair."""
        if self.store.photo[row0] == self.store.photo[row1]:
            return None
        ids0, ids1 = self.store.keypoints(row0), self.store.keypoints(row1)
        if ids0.tobytes() == ids1.tobytes():
            return ids0
        in_1 = np.zeros(max(int(ids0[-1]), int(ids1[-1])) + 1, bool)
        in_1[ids1] = True
        common = ids0[in_1[ids0]]
        return common if len(common) >= MIN_KEYPOINTS else None

    def draw_distinct(self, rng: np.random.Generator, category: int, num: int) -> list[Pair]:
        """Draw `num` different ordered pairs of a category, or all in random order if there are fewer."""
        rows = self.rows[category]
        if len(rows) ** 2 > max(_ENUMERATE_BELOW, 4 * num):
            found: dict[tuple[int, int], Pair] = {}
            for _ in range(_MAX_DRAWS * num):
                pair = self.draw_of(rng, category)
                found.setdefault((pair.row0, pair.row1), pair)
                if len(found) == num:
                    break
            return list(found.values())
        chosen: list[Pair] = []
        for k in rng.permutation(len(rows) ** 2):
            row0, row1 = int(rows[k // len(rows)]), int(rows[k % len(rows)])
            common = self.common(row0, row1)
            if common is not None:
                chosen.append(self._make(rng, category, row0, row1, common))
            if len(chosen) == num:
                break
        return chosen


class GivenPairSampler(PairSampler):
    """Sampler of given pairs, as published: a category, then one of its pairs, uniformly.

    Evaluation takes all of them. Categories without pairs in the split are skipped.
    """

    def __init__(self, store: ObjectStore, table: PairTable, split: str, *, union: bool = False) -> None:
        self.store, self.split, self.table, self._redraw, self._union = store, split, table, "objects", union
        numbers = table.of(split)
        category_P = store.category[table.row0[numbers]]
        self.categories = [int(c) for c in np.unique(category_P)]
        self.pairs = {c: numbers[category_P == c] for c in self.categories}
        self.rows = {c: np.union1d(table.row0[pairs], table.row1[pairs]) for c, pairs in self.pairs.items()}
        if not self.categories:
            raise UserError(f"{store.directory}: no given pairs in split {split}")

    def _try(self, rng: np.random.Generator, category: int) -> Pair | None:
        pairs = self.pairs[category]
        return self._pair(rng, category, int(pairs[rng.integers(len(pairs))]))

    def fixed(self, seed: int, num: int) -> list[Pair]:
        """List all given pairs, whatever `num`."""
        chosen = []
        for category in self.categories:
            rng = generator(seed, EVAL, category)
            chosen += [self._pair(rng, category, number) for number in self.pairs[category].tolist()]
        return chosen

    def _pair(self, rng: np.random.Generator, category: int, number: int) -> Pair:
        row0, row1 = int(self.table.row0[number]), int(self.table.row1[number])
        return self._make(rng, category, row0, row1, self.table.keypoints(number))


def pair_sampler(
    store: ObjectStore, split: str, *, redraw: str = "objects", pairs: str = "intersection"
) -> PairSampler:
    """Make the sampler of a data set: of its given pairs if it lists any; `redraw` and `pairs` as in `data`."""
    table, union = open_pairs(store), pairs == "union"
    if table is None:
        return PairSampler(store, split, redraw=redraw, union=union)
    return GivenPairSampler(store, table, split, union=union)

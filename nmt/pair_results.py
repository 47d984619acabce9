"""What was counted on each evaluation pair: kept beside a result, so that its spread over photographs can be measured.

Letters: P pairs, A categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmt.errors import UserError
from nmt.io.files import atomic_write

if TYPE_CHECKING:
    from nmt.data.store.objects import ObjectStore
    from nmt.data.stream.pair import Pair
    from nmt.metrics import Counts

MODEL = "NMT"
"""name of the matcher among the methods"""


@dataclass(frozen=True, eq=False)
class PairResults:
    """Counts of every evaluation pair, for one or more measures of the same keypoints."""

    categories: tuple[str, ...]
    photographs_P2: np.ndarray
    """int64, number of the photograph of each side"""
    category_P: np.ndarray
    """int64, index into `categories`"""
    total_P: np.ndarray
    """float64, keypoints to match"""
    correct: Mapping[str, np.ndarray]
    """method or measure -> (P,) float64, correct keypoints among `total_P`; fractions where they are expected values"""

    @classmethod
    def of(
        cls,
        store: ObjectStore,
        pairs: Sequence[Pair],
        total_P: np.ndarray,
        correct: Mapping[str, np.ndarray],
    ) -> PairResults:
        """Join the counts of pairs with what the data set says of them."""
        rows_P2 = np.array([(pair.row0, pair.row1) for pair in pairs], np.int64).reshape(-1, 2)
        category_P = np.array([pair.category for pair in pairs], np.int64)
        photographs_P2 = np.asarray(store.photo)[rows_P2].astype(np.int64)
        return cls(tuple(store.info.categories), photographs_P2, category_P, total_P, dict(correct))

    @property
    def num_photographs(self) -> int:
        """Photographs that are part of a pair."""
        return len(np.unique(self.photographs_P2))

    def counts(self, name: str) -> Counts:
        """Return the sums of a method or measure by category."""
        import torch

        from nmt.metrics import Counts

        sums = (np.bincount(self.category_P, x, len(self.categories)) for x in (self.correct[name], self.total_P))
        return Counts(*(torch.from_numpy(x) for x in sums))

    def same_pairs(self, other: PairResults) -> bool:
        """True if both were counted on the same pairs, so that their counts can be compared pair by pair."""
        fields = ("photographs_P2", "category_P", "total_P")
        alike = all(np.array_equal(getattr(self, field), getattr(other, field)) for field in fields)
        return alike and self.categories == other.categories

    def save(self, path: Path) -> None:
        """Write the counts as a compressed NPZ file, atomically. Raises UserError when it cannot be written."""
        with atomic_write(path) as file:
            np.savez_compressed(
                file,
                categories=np.array(self.categories, str),
                photographs=self.photographs_P2,
                category=self.category_P,
                total=self.total_P,
                names=np.array(list(self.correct), str),
                correct=np.array([*self.correct.values()], np.float64).reshape(len(self.correct), len(self.total_P)),
            )


def load_pair_results(path: Path) -> PairResults:
    """Read the file that `PairResults.save` wrote. Raises UserError if it is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names, correct = file["names"].tolist(), file["correct"]
            found = PairResults(
                tuple(file["categories"].tolist()),
                file["photographs"],
                file["category"],
                file["total"],
                dict(zip(names, correct, strict=True)),
            )
        whole = all(len(x) == len(found.total_P) for x in (found.photographs_P2, found.category_P, *correct))
        if not whole or found.photographs_P2.shape[1:] != (2,):
            raise ValueError("its columns differ in length")
    except Exception as error:  # NumPy and zipfile raise many kinds for a damaged file
        raise UserError(
            f"{path}: not the counts of evaluation pairs ({error}); evaluate again to replace it"
        ) from error
    return found

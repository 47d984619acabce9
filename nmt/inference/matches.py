"""The matches between the keypoints of two images: as a table, as plain values, and as a picture.

N source and M target keypoints, K matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmt.inference.pictures import MatchedPair, draw_pair
from nmt.io.table import aligned, shortened

FEW = 0.5
"""share of the keypoints that could match below which the verdict doubts that the images show the same object"""


@dataclass(frozen=True, eq=False)
class Matches:
    """The matches between the keypoints of two images. Printed: a table, and the keypoints without a match.

    A source keypoint without a match has no row in `indices`.
    """

    indices: np.ndarray
    """(K, 2) int64: source keypoint, target keypoint"""
    similarity: np.ndarray
    """(K,) float32: cosine of the two keypoints' features after the last decoder layer, -1 to 1"""
    confidence: np.ndarray
    """(K,) float32 in [0, 1]: estimated probability that the match is right, where `calibrated`; else the entry of the
    transport plan with dustbins, which orders matches and is no probability"""
    calibrated: bool
    """the checkpoint has a calibration"""
    threshold: float | None
    """lowest confidence of a match; None where every source keypoint gets a match"""
    points0: np.ndarray
    """(N, 2) float64: the source keypoints, pixels (x, y)"""
    points1: np.ndarray
    """(M, 2) float64: the target keypoints, pixels (x, y)"""
    names0: tuple[str, ...] | None
    """names of the source keypoints; None where they were given without"""
    names1: tuple[str, ...] | None
    """names of the target keypoints; None where they were given without"""
    image0: np.ndarray
    """(H, W, 3) uint8: the source image, upright"""
    image1: np.ndarray
    """(H, W, 3) uint8: the target image, upright"""
    label: str = ""
    """caption of the picture"""

    @property
    def unmatched0(self) -> tuple[str, ...] | tuple[int, ...]:
        """Return the source keypoints without a match: names, or indices where they have none."""
        return _left(self.names0, len(self.points0), self.indices[:, 0])

    @property
    def unmatched1(self) -> tuple[str, ...] | tuple[int, ...]:
        """Return the target keypoints without a match: names, or indices where they have none."""
        return _left(self.names1, len(self.points1), self.indices[:, 1])

    @property
    def truth(self) -> np.ndarray | None:
        """Return the target keypoint of each source keypoint's name, (N,) int64, -1 = none; None without a name in
        common."""
        if self.names0 is None or self.names1 is None or not set(self.names0) & set(self.names1):
            return None
        index = {name: m for m, name in enumerate(self.names1)}
        return np.array([index.get(name, -1) for name in self.names0])

    def names(self) -> dict[str, str | None]:
        """Name each source keypoint's match; None where it has none. Keypoints without names are numbered."""
        names0, names1 = _named(self.names0, self.points0), _named(self.names1, self.points1)
        target = dict(self.indices.tolist())
        return {name: names1[target[n]] if n in target else None for n, name in enumerate(names0)}

    def right(self) -> tuple[int, int] | None:
        """Count the right matches, and the source keypoints whose name both sides have; None without such names."""
        truth = self.truth
        if truth is None:
            return None
        return int((self.predicted()[truth >= 0] == truth[truth >= 0]).sum()), int((truth >= 0).sum())

    def predicted(self) -> np.ndarray:
        """Return the matched target keypoint of each source keypoint, (N,) int64, -1 = none."""
        predicted_N = np.full(len(self.points0), -1)
        predicted_N[self.indices[:, 0]] = self.indices[:, 1]
        return predicted_N

    def verdict(self) -> str | None:
        """Say so where few keypoints match; None where most do."""
        most, number = min(len(self.points0), len(self.points1)), len(self.indices)
        if self.threshold is None or number >= FEW * most:
            return None
        return f"{number} of {most} matched: these images may not show the same object"

    def table(self) -> str:
        """Format the matches with their confidence, then the keypoints without a match on either side."""
        names0, names1 = _named(self.names0, self.points0), _named(self.names1, self.points1)
        rows = [("source", "target", "confidence" if self.calibrated else "raw score")]
        for (n, m), value in zip(self.indices.tolist(), self.confidence.tolist(), strict=True):
            rows.append((shortened(names0[n]), shortened(names1[m]), f"{value:.2f}"))
        lines = [aligned(rows, left=2) if len(rows) > 1 else "no keypoint matched"]
        for side, names in (("source", self.unmatched0), ("target", self.unmatched1)):
            if names:
                lines.append(f"no match of the {side}: {', '.join(shortened(str(name)) for name in names)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return names, confidences and verdict as plain values, ready for JSON."""
        names0, names1 = _named(self.names0, self.points0), _named(self.names1, self.points1)
        rows = [
            {"source": names0[n], "target": names1[m], "confidence": confidence, "similarity": similarity}
            for (n, m), confidence, similarity in zip(
                self.indices.tolist(), self.confidence.tolist(), self.similarity.tolist(), strict=True
            )
        ]
        right = self.right()
        return {
            "matches": self.names(),
            "rows": rows,
            "unmatched0": list(self.unmatched0),
            "unmatched1": list(self.unmatched1),
            "threshold": self.threshold,
            "calibrated": self.calibrated,
            "right": None if right is None else right[0],
            "known": None if right is None else right[1],
            "verdict": self.verdict(),
        }

    def draw(self, *, side: int = 384) -> np.ndarray:
        """Draw both images side by side in their own proportions, a line for each match.

        Args:
            side: pixels of the longer side of each image.

        Returns:
            (height, width, 3) uint8.
        """
        confidence_N = np.zeros(len(self.points0), np.float32)
        confidence_N[self.indices[:, 0]] = self.confidence
        pair = MatchedPair(
            image0_HW3=self.image0,
            image1_HW3=self.image1,
            points0_N2=self.points0,
            points1_M2=self.points1,
            predicted_N=self.predicted(),
            match_N=self.truth,
            label=self.label,
            names0=self.names0,
            names1=self.names1,
            confidence_N=confidence_N,
            score="confidence" if self.calibrated else "raw score",
        )
        return draw_pair(pair, side=side)

    def __str__(self) -> str:
        verdict = self.verdict()
        return self.table() + (f"\n{verdict}" if verdict else "")


def _named(names: tuple[str, ...] | None, points: np.ndarray) -> tuple[str, ...]:
    return names if names is not None else tuple(map(str, range(len(points))))


def _left(names: Sequence[str] | None, number: int, taken_K: np.ndarray) -> tuple[str, ...] | tuple[int, ...]:
    left = sorted(set(range(number)) - set(taken_K.tolist()))
    return tuple(left) if names is None else tuple(names[n] for n in left)

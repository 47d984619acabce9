"""PCK@alpha: keypoints whose predicted target is near the true one, measured by the size of the target object.

Of Yang and Ramanan, Articulated human detection with flexible mixtures of parts, TPAMI 2013. Distances are shares of
the longer side of the object's box, as in SPair-71k (Min et al., arXiv 1908.10543). The predicted target is the
position of the matched target keypoint. So a keypoint that is matched rightly is right at any alpha.

Letters as in nmt/batch.py; P evaluation pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmt.bootstrap import MEAN
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pair import Pair
from nmt.io.table import aligned
from nmt.metrics import correct_keypoints
from nmt.pair_results import MODEL, PairResults

ALPHAS = (0.05, 0.1, 0.15)
_ROUNDING = 1e-5
"""share of a distance that single precision may have changed"""
_SEPARATOR = " PCK@"


def measure(method: str, alpha: float) -> str:
    """Return the name of a method's PCK among the counts of pairs (nmt.pair_results)."""
    return f"{method}{_SEPARATOR}{alpha:g}"


def is_pck(name: str) -> bool:
    """True if a name among the counts of pairs is one that `measure` returned."""
    return _SEPARATOR in name


@dataclass(frozen=True)
class Targets:
    """Where the target keypoints of evaluation pairs are."""

    points_PM2: Tensor
    """float64, in shares of the longer side of the object's box; rows of padding are infinitely far"""
    scale_P2: Tensor
    """float64, the same of one pixel of the square, along x and y"""
    boxes: int
    """targets with an annotated box; of the others, the box around all their keypoints counts"""

    @classmethod
    def of(cls, store: ObjectStore, pairs: Sequence[Pair]) -> Targets | None:
        """Find the target keypoints of pairs; None where the data set does not say how large its objects are."""
        if not store.has_sizes:
            return None
        points_PM2 = np.full((len(pairs), max((len(p.keypoints1) for p in pairs), default=0), 2), np.inf)
        scale_P2, boxes = np.empty((len(pairs), 2)), 0
        for k, pair in enumerate(pairs):
            shown, box = store.sizes(pair.row1).astype(np.float64)
            points_N2, pixel = store.points(pair.row1).astype(np.float64), shown / store.info.image_size
            boxes += box.any()
            side = (box if box.any() else np.ptp(points_N2, axis=0) * pixel).max()
            scale_P2[k] = pixel / (side or 1)  # 0: all keypoints at one point
            points_PM2[k, : len(pair.keypoints1)] = points_N2[pair.positions1] * scale_P2[k]
        return cls(torch.from_numpy(points_PM2), torch.from_numpy(scale_P2), int(boxes))

    def right(self, predicted_PN: Tensor, match_PN: Tensor, alpha: float) -> Tensor:
        """Count the predictions that are near the true target keypoint: (P,) float64.

        Args:
            predicted_PN: predicted target keypoint; -1 = none, which is never right.
            match_PN: true target keypoint; -1 = none, which does not count.
            alpha: largest distance, in shares of the longer side of the target's box.
        """
        return self._right(self._at(predicted_PN), match_PN, alpha)

    def right_at(self, points_PN2: Tensor, match_PN: Tensor, alpha: float) -> Tensor:
        """Count as `right` does, of predicted positions in pixels of the square; inf = none."""
        return self._right(points_PN2 * self.scale_P2[:, None], match_PN, alpha)

    def _right(self, points_PN2: Tensor, match_PN: Tensor, alpha: float) -> Tensor:
        near_PN = (points_PN2 - self._at(match_PN)).square().sum(-1).sqrt() <= alpha * (1 + _ROUNDING)
        return (near_PN & (match_PN >= 0)).sum(1).double()

    def _at(self, index_PN: Tensor) -> Tensor:
        """Return the positions of target keypoints, inf where the index is -1."""
        found_PN2 = self.points_PM2[torch.arange(len(index_PN))[:, None], index_PN.clamp_min(0)]
        return found_PN2.masked_fill((index_PN < 0)[..., None], torch.inf)


def counts(
    method: str, predicted_PN: Tensor, match_PN: Tensor, targets: Targets | None, alphas: Iterable[float] = ALPHAS
) -> dict[str, Tensor]:
    """Count what a method gets right on each pair: exactly, and at each alpha.

    Args:
        method: its name.
        predicted_PN: predicted target keypoint, -1 = none, which is right at no alpha.
        match_PN: true target keypoint, -1 = none.
        targets: of the pairs; None: no PCK.

    Returns:
        Name -> (P,) float64, right keypoints.
    """
    found = {method: correct_keypoints(predicted_PN, match_PN)[0]}
    if targets is not None:
        found |= {measure(method, alpha): targets.right(predicted_PN, match_PN, alpha) for alpha in alphas}
    return found


def counts_by_chance(
    method: str, mask1_PM: Tensor, match_PN: Tensor, targets: Targets | None, alphas: Iterable[float] = ALPHAS
) -> dict[str, Tensor]:
    """Return the expected counts of a target keypoint drawn at random; as `counts`, with a mask of real keypoints."""
    num_P = mask1_PM.sum(1)
    found = {method: ((match_PN >= 0).sum(1) / num_P).double()}
    if targets is not None:
        every = [torch.full_like(match_PN, m) for m in range(targets.points_PM2.shape[1])]
        for alpha in alphas:
            right_P = sum((targets.right(m_PN, match_PN, alpha) for m_PN in every), torch.zeros(len(num_P)).double())
            found[measure(method, alpha)] = right_P / num_P
    return found


@dataclass(frozen=True)
class PckFigures:
    """PCK of methods on one split, in [0, 1]; keys are method, then alpha as text, such as "0.1"."""

    note: str
    """by what distances are measured"""
    per_point: dict[str, dict[str, float]]
    """right keypoints / all keypoints of a category; mean over categories"""
    per_image: dict[str, dict[str, float]]
    """mean over the pairs of a category of right / all keypoints; mean over categories"""
    pooled_per_point: dict[str, dict[str, float]]
    """the same of all keypoints together, without categories"""
    pooled_per_image: dict[str, dict[str, float]]
    """the same of all pairs together, without categories"""
    per_category: dict[str, dict[str, dict[str, float]]]
    """method -> alpha -> category -> per point"""
    per_image_per_category: dict[str, dict[str, dict[str, float]]]
    """method -> alpha -> category -> per image"""
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]]
    """method -> alpha -> category, or nmt.bootstrap.MEAN -> 95 % interval over photographs of PCK per point"""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PckFigures:
        """Decode what `dataclasses.asdict` returned. Raises KeyError or TypeError if it is something else."""
        ends = {
            method: {
                alpha: {column: (low, high) for column, (low, high) in by_column.items()}
                for alpha, by_column in by_alpha.items()
            }
            for method, by_alpha in content["intervals"].items()
        }
        return cls(**{**content, "intervals": ends})

    def table(self) -> str:
        """Format the means over categories, in per cent, one row a method, with intervals of the matcher."""
        alphas = [f"{alpha:g}" for alpha in ALPHAS]
        kinds = {"point": self.per_point, "image": self.per_image}
        rows = [["PCK@alpha, per", *(f"{kind} {alpha}" for kind in kinds for alpha in alphas)]]
        for method in self.per_point:
            rows.append([method, *(f"{of[method][alpha]:.1%}" for of in kinds.values() for alpha in alphas)])
            ends = [self.intervals[method][alpha].get(MEAN) for alpha in alphas]
            if method.startswith(MODEL) and any(ends):
                shown = [f"[{100 * found[0]:.1f}, {100 * found[1]:.1f}]" if found else "-" for found in ends]
                rows.append(["95 % interval", *shown, *("" for _ in alphas)])
        return f"{aligned(rows, left=1)}\n{self.note}"


def pck_figures(
    results: PairResults,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]],
    targets: Targets,
) -> PckFigures:
    """Sum up the counts of pairs.

    Args:
        results: with the names of `measure`, for every method and alpha; in the order of the rows.
        intervals: of `results` (nmt.bootstrap).
        targets: of the pairs.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for method in dict.fromkeys(name.partition(_SEPARATOR)[0] for name in results.correct if is_pck(name)):
        for alpha in ALPHAS:
            name = measure(method, alpha)
            columns = _columns(results, name) | {"intervals": dict(intervals[name])}
            for field, value in columns.items():
                found.setdefault(field, {}).setdefault(method, {})[f"{alpha:g}"] = value
    return PckFigures(note=_note(len(results.total_P), targets.boxes), **found)


def _columns(results: PairResults, name: str) -> dict[str, Any]:
    """Return the figures of one method and alpha, by field of `PckFigures`."""
    right_P, total_P, category_P = results.correct[name], results.total_P, results.category_P
    some_P = total_P > 0
    share_P = np.divide(right_P, total_P, out=np.zeros_like(right_P), where=some_P)
    per_image = {
        category: float(share_P[chosen].mean())
        for k, category in enumerate(results.categories)
        if (chosen := some_P & (category_P == k)).any()
    }
    per_point = results.counts(name)
    return {
        "per_point": per_point.accuracy(),
        "per_image": float(np.mean([*per_image.values()])) if per_image else 0.0,
        "pooled_per_point": float(right_P.sum() / total_P.sum()) if some_P.any() else 0.0,
        "pooled_per_image": float(share_P[some_P].mean()) if some_P.any() else 0.0,
        "per_category": per_point.accuracy_per_category(results.categories),
        "per_image_per_category": per_image,
    }


def _note(pairs: int, boxes: int) -> str:
    if boxes == pairs:
        return "alpha: share of the longer side of the target's box"
    if not boxes:
        return "alpha: share of the longer side of the box around the target's keypoints (it has no other box)"
    return f"alpha: share of the longer side of the target's box; for {pairs - boxes} of {pairs}, around its keypoints"

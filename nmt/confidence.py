"""Confidence of matches, and the decision that a keypoint has no partner: pure functions, masked for padding.

A published decoding matches every source keypoint. Here a transport plan with a dustbin on either side, as SuperGlue's
(Sarlin et al. 2020, arXiv 1911.11763), says how much of a keypoint's mass stays without a partner. A logistic function
of four numbers makes a confidence of it. Its weights and its threshold are fitted on validation pairs with outliers.
Nothing is trained again. Letters as in nmt/batch.py; R rows, one per source keypoint that a decoding matched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nmt.errors import UserError
from nmt.sinkhorn import HIDDEN
from nmt.unmatched import F1, OFF, parse_unmatched

SCORE = -0.4
"""cosine at which a keypoint prefers the dustbin; F1 is flat between -1 and -0.2 at this epsilon"""
EPSILON = 0.1
"""entropic regularisation of the dustbin plan: softer than the decoding's, for it measures and does not decide"""
ITERATIONS = 27
"""normalisations of the rows and the columns, as many as the published decoding has"""
IN_CHECKPOINT = "calibration"
"""key of a calibration in best.pt"""
EVIDENCE = ("log plan entry", "log row-bin mass", "log column-bin mass", "mean cosine of the pair")
"""the four numbers that a confidence is read from"""

_RIDGE = 1e-4
"""weight of the squared size of the five numbers: rows that are all right, or separable, have no finite optimum"""
_STEPS = 200
"""thresholds that the curve of a calibration holds, besides 0"""
_BINS = 10
"""bins of equal width that the calibration error is counted in"""


def dustbin_plan(
    similarity_BNM: Tensor,
    mask0_BN: Tensor,
    mask1_BM: Tensor,
    *,
    score: float = SCORE,
    epsilon: float = EPSILON,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Compute the log of the transport plan with a dustbin for each side.

    The marginals are SuperGlue's: every keypoint has mass 1; the dustbin of a side has room for all keypoints of the
    other side. Padding never matters.

    Args:
        similarity_BNM: cosines of source and target keypoints.
        mask0_BN, mask1_BM: True where a keypoint is real.
        score: the similarity of every keypoint with the dustbin.
        epsilon: entropic regularisation.
        iterations: normalisations of the rows, each followed by one of the columns; at least 1.

    Returns:
        (B, N + 1, M + 1) float32: log of the plan, the dustbins last, `HIDDEN` at padding. The columns of its exp sum
        to the mass of their keypoint.
    """
    cost = torch.nn.functional.pad(similarity_BNM.float(), (0, 1, 0, 1), value=score) / epsilon
    real0, real1 = (torch.nn.functional.pad(mask, (0, 1), value=True) for mask in (mask0_BN, mask1_BM))
    cost = cost.masked_fill(~(real0[:, :, None] & real1[:, None, :]), HIDDEN)
    mass0, mass1 = _log_marginal(mask0_BN, mask1_BM), _log_marginal(mask1_BM, mask0_BN)
    potential1 = torch.zeros_like(mass1)
    for _ in range(iterations):
        potential0 = (mass0 - (cost + potential1[:, None, :]).logsumexp(2)).masked_fill(~real0, 0.0)
        potential1 = (mass1 - (cost + potential0[:, :, None]).logsumexp(1)).masked_fill(~real1, 0.0)
    log_plan = cost + potential0[:, :, None] + potential1[:, None, :]
    return log_plan.masked_fill(cost == HIDDEN, HIDDEN)


def _log_marginal(own_BN: Tensor, other_BM: Tensor) -> Tensor:
    """Return (B, N + 1), the log of the masses: 1 of each keypoint, and in the dustbin one for each of the others."""
    room_B1 = other_BM.sum(1, keepdim=True).float().log().clamp_min(HIDDEN)
    return torch.cat([torch.zeros_like(own_BN, dtype=torch.float32), room_B1], dim=1)


def evidence(similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, target_BN: Tensor) -> Tensor:
    """Compute the four numbers that the confidence of each match is read from.

    Args:
        similarity_BNM: cosines of source and target keypoints.
        mask0_BN, mask1_BM: True where a keypoint is real.
        target_BN: int64, the target keypoint that a decoding chose; -1 = none.

    Returns:
        (B, N, 4) float32, in the order of `EVIDENCE`; 0 where a source keypoint has no target.
    """
    log_plan = dustbin_plan(similarity_BNM, mask0_BN, mask1_BM)
    matched_BN = (target_BN >= 0) & mask0_BN
    chosen_BN1 = target_BN.clamp_min(0)[:, :, None]
    cosine_BN = similarity_BNM.float().gather(2, chosen_BN1)[:, :, 0].masked_fill(~matched_BN, 0.0)
    mean_B1 = cosine_BN.sum(1, keepdim=True) / matched_BN.sum(1, keepdim=True).clamp_min(1)
    numbers = (
        log_plan[:, :-1, :-1].gather(2, chosen_BN1)[:, :, 0],
        log_plan[:, :-1, -1],
        log_plan[:, -1, :-1].gather(1, chosen_BN1[:, :, 0]),
        mean_B1.expand_as(cosine_BN),
    )
    return torch.stack(numbers, dim=2).masked_fill(~matched_BN[:, :, None], 0.0)


@dataclass(frozen=True)
class Calibration:
    """How a matcher's evidence becomes a confidence, and below which confidence a keypoint has no partner."""

    weights: tuple[float, float, float, float]
    """of the numbers of `EVIDENCE`"""
    bias: float
    threshold: float
    """lowest confidence of a match, in [0, 1]"""
    chosen: str
    """how the threshold was chosen: f1, precision=P, or a number"""
    pairs: dict[str, int]
    """protocol -> number of pairs that it was fitted on"""
    figures: dict[str, dict[str, float]]
    """protocol -> figure -> its value on those pairs"""
    curve: tuple[tuple[float, float], ...]
    """(threshold, precision of the matches at or above it) on those pairs, thresholds increasing"""

    def with_threshold(self, unmatched: str, *, source: str) -> Calibration:
        """Choose another threshold, as `decode.unmatched` says it; "off" keeps every match.

        Raises:
            UserError: a precision that no threshold reached on the fitted pairs.
        """
        kind, value = parse_unmatched(unmatched)
        if kind == F1:
            return self
        if kind == OFF:
            return dataclasses.replace(self, threshold=0.0, chosen=OFF)
        if kind == "precision":
            reached = [threshold for threshold, precision in self.curve if precision >= value]
            if not reached:
                best = max((precision for _, precision in self.curve), default=0.0)
                raise UserError(
                    f"{source}: decode.unmatched = {unmatched}: no threshold has that precision on the validation "
                    f"pairs; the highest there is {math.floor(best * 1000) / 1000:g}"
                )
            return dataclasses.replace(self, threshold=min(reached), chosen=unmatched)
        return dataclasses.replace(self, threshold=value, chosen=unmatched)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON and for a checkpoint."""
        content = dataclasses.asdict(self)
        return content | {"weights": list(self.weights), "curve": [list(point) for point in self.curve]}

    @classmethod
    def from_dict(cls, content: Any, *, source: str) -> Calibration:
        """Decode what `to_dict` returned. Raises UserError, naming `source`, if it is damaged."""
        try:
            weights = tuple(float(weight) for weight in content["weights"])
            curve = tuple((float(threshold), float(precision)) for threshold, precision in content["curve"])
            figures = {p: {k: float(v) for k, v in several.items()} for p, several in content["figures"].items()}
            found = cls(
                weights=(weights[0], weights[1], weights[2], weights[3]),
                bias=float(content["bias"]),
                threshold=float(content["threshold"]),
                chosen=str(content["chosen"]),
                pairs={str(protocol): int(count) for protocol, count in content["pairs"].items()},
                figures=figures,
                curve=curve,
            )
            if len(weights) != len(EVIDENCE) or not all(map(math.isfinite, [*weights, found.bias])):
                raise ValueError(f"expected {len(EVIDENCE)} finite weights and a bias")
            if not 0 <= found.threshold <= 1:
                raise ValueError(f"a threshold of {found.threshold:g}")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{source}: its calibration is damaged ({type(error).__name__}: {error}); restore the file, or train "
                "again"
            ) from error
        return found


def chosen_calibration(calibration: Calibration | None, unmatched: str, *, source: str) -> Calibration | None:
    """Return the calibration of a checkpoint with the threshold that `decode.unmatched` asks for.

    Args:
        calibration: of the checkpoint; None if it has none.
        unmatched: value of `decode.unmatched`.
        source: the checkpoint, for messages.

    Returns:
        None where there is none and none is needed ("off").

    Raises:
        UserError: there is none and matches are to be left out by it, or a precision that no threshold reached.
    """
    if calibration is not None:
        return calibration.with_threshold(unmatched, source=source)
    if unmatched == OFF:
        return None
    raise UserError(
        f"{source}: has no confidences, which decode.unmatched = {unmatched} needs; continue its training with "
        "--resume, which adds them where val is not trained on, or set decode.unmatched=off"
    )


def confidence_of(evidence_BN4: Tensor, calibration: Calibration) -> Tensor:
    """Compute confidences (...,) in [0, 1] from the four numbers (..., 4) of each match."""
    weights = torch.tensor(calibration.weights, dtype=evidence_BN4.dtype, device=evidence_BN4.device)
    return (evidence_BN4 @ weights + calibration.bias).sigmoid()


def match_confidence(
    similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, target_BN: Tensor, calibration: Calibration | None
) -> Tensor:
    """Compute the confidence of each match that a decoding chose.

    Args:
        similarity_BNM: cosines of source and target keypoints.
        mask0_BN, mask1_BM: True where a keypoint is real.
        target_BN: int64, the chosen target keypoint; -1 = none.
        calibration: as fitted for this matcher; None: the confidence is the raw entry of the dustbin plan.

    Returns:
        (B, N) float32 in [0, 1]; 0 where there is no target.
    """
    numbers = evidence(similarity_BNM, mask0_BN, mask1_BM, target_BN)
    confidence_BN = numbers[..., 0].exp() if calibration is None else confidence_of(numbers, calibration)
    return confidence_BN.masked_fill((target_BN < 0) | ~mask0_BN, 0.0)


@dataclass(frozen=True)
class Rows:
    """Matches that a decoding chose, each with its evidence and whether it is right."""

    evidence_R4: Tensor
    """float32, see `evidence`"""
    right_R: Tensor
    """bool"""
    matchable: int
    """source keypoints that have a partner, matched or not: what recall is a share of"""

    @classmethod
    def of(
        cls, similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, target_BN: Tensor, match_BN: Tensor
    ) -> Rows:
        """Collect the matches `target_BN` of some pairs, whose true matches are `match_BN` (-1 = none)."""
        matched_BN = (target_BN >= 0) & mask0_BN
        numbers = evidence(similarity_BNM, mask0_BN, mask1_BM, target_BN)
        right_BN = (target_BN == match_BN) & matched_BN
        return cls(numbers[matched_BN], right_BN[matched_BN], int((match_BN >= 0).sum()))

    @classmethod
    def joined(cls, several: Sequence[Rows]) -> Rows:
        """Pool rows."""
        return cls(
            torch.cat([rows.evidence_R4 for rows in several]),
            torch.cat([rows.right_R for rows in several]),
            sum(rows.matchable for rows in several),
        )


def figures(rows: Rows, calibration: Calibration) -> dict[str, float]:
    """Measure how well confidences tell right matches from wrong ones.

    Args:
        rows: matches with their truth.
        calibration: gives the confidence, and the threshold below which a match is left out.

    Returns:
        "kept", the share of the matches that are kept; their "precision", "recall" and "f1", counted over all
        keypoints; "auc", the probability that a
        right match has a higher confidence than a wrong one; "ece", the expected calibration error. A figure that is
        not defined, such as the AUC where no match is right, is left out.
    """
    confidence_R = confidence_of(rows.evidence_R4.double(), calibration)
    kept_R = confidence_R >= calibration.threshold
    kept, hits = int(kept_R.sum()), int((kept_R & rows.right_R).sum())
    found: dict[str, float] = {}
    if kept:
        found["precision"] = hits / kept
    if rows.matchable:
        found |= {"recall": hits / rows.matchable, "f1": 2 * hits / (kept + rows.matchable)}
    if (auc := area_under_curve(confidence_R, rows.right_R)) is not None:
        found["auc"] = auc
    if len(confidence_R):
        found["kept"] = kept / len(confidence_R)
        found["ece"] = calibration_error(confidence_R, rows.right_R)
    return found


def area_under_curve(confidence_R: Tensor, right_R: Tensor) -> float | None:
    """Return the probability that a right match has the higher confidence, ties counted half; None without either."""
    right, wrong = int(right_R.sum()), int((~right_R).sum())
    if not right or not wrong:
        return None
    _, group_R, count_G = confidence_R.unique(return_inverse=True, return_counts=True)
    last_G = count_G.cumsum(0).double()
    rank_G = last_G - (count_G.double() - 1) / 2  # equal confidences share the mean of their ranks
    return float((rank_G[group_R][right_R].sum() - right * (right + 1) / 2) / (right * wrong))


def calibration_error(confidence_R: Tensor, right_R: Tensor) -> float:
    """Return the mean distance of confidence and accuracy over bins of equal width, weighted by their matches."""
    bin_R = (confidence_R * _BINS).long().clamp_max(_BINS - 1)
    excess_R = (confidence_R - right_R.to(confidence_R)).double()
    sums = torch.zeros(_BINS, dtype=torch.float64, device=excess_R.device).index_add(0, bin_R, excess_R)
    return float(sums.abs().sum()) / max(len(confidence_R), 1)


def fit(protocols: Mapping[str, Rows], pairs: Mapping[str, int]) -> Calibration:
    """Fit a calibration to the matches of some protocols, pooled. Its threshold is that of the highest F1.

    Args:
        protocols: protocol -> its matches.
        pairs: protocol -> the number of pairs that they are of.

    Raises:
        ValueError: there are no rows.
    """
    rows = Rows.joined(list(protocols.values()))
    if not len(rows.right_R):
        raise ValueError("no matches to fit a calibration to")
    weights, bias = _logistic(rows.evidence_R4.double().cpu(), rows.right_R.double().cpu())
    kind = (weights[0], weights[1], weights[2], weights[3])
    found = Calibration(kind, bias, 0.0, F1, dict(pairs), {}, ())
    confidence_R, right_R = confidence_of(rows.evidence_R4.double().cpu(), found), rows.right_R.cpu()
    found = dataclasses.replace(
        found,
        threshold=_best_threshold(confidence_R, right_R, rows.matchable),
        curve=_precision_curve(confidence_R, right_R),
    )
    return dataclasses.replace(found, figures={name: figures(several, found) for name, several in protocols.items()})


def _logistic(x_R4: Tensor, right_R: Tensor) -> tuple[list[float], float]:
    """Fit weights and bias by L-BFGS, in float64 and on standardised numbers, so that it converges in few steps."""
    mean, deviation = x_R4.mean(0), x_R4.std(0, correction=0).clamp_min(1e-6)
    z_R4 = (x_R4 - mean) / deviation
    parameters = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits_R = z_R4 @ parameters[:4] + parameters[4]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_R, right_R)
        loss = loss + _RIDGE * parameters.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    fitted = parameters.detach()
    weights = fitted[:4] / deviation
    return weights.tolist(), float(fitted[4] - weights @ mean)


def _best_threshold(confidence_R: Tensor, right_R: Tensor, matchable: int) -> float:
    """Return the confidence at which keeping all matches at or above it has the highest F1; the highest of equals."""
    ordered_R, order_R = confidence_R.sort(descending=True, stable=True)
    hits_R = right_R[order_R].cumsum(0).double()
    kept_R = torch.arange(1, len(ordered_R) + 1, dtype=torch.float64)
    f1_R = 2 * hits_R / (kept_R + matchable)
    # Equal confidences are kept together: only the last of them is a threshold.
    last_R = torch.cat([ordered_R[1:] != ordered_R[:-1], torch.ones(1, dtype=torch.bool)])
    return float(ordered_R[f1_R.masked_fill(~last_R, -1.0).argmax()])


def _precision_curve(confidence_R: Tensor, right_R: Tensor) -> tuple[tuple[float, float], ...]:
    points = []
    for step in range(_STEPS + 1):
        kept_R = confidence_R >= step / _STEPS
        if not kept_R.any():
            break
        points.append((step / _STEPS, float(right_R[kept_R].double().mean())))
    return tuple(points)

"""Similarities of the evaluation pairs, and the accuracy of every decoding read from them.

A forward pass costs far more than decoding. So the similarities of all pairs are computed once and kept. A sweep over
Sinkhorn iterations, epsilon and assignment then reads the accuracy of each, with no forward pass of its own.

Letters as in nmt/batch.py; P evaluation pairs.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig
from nmt.metrics import Counts, count_correct
from nmt.model.matcher import Matcher, MatchOutput
from nmt.sinkhorn import assign, decode, sinkhorn


@dataclass(frozen=True)
class Similarities:
    """Everything that decoding needs of the evaluation pairs, padded to the longest, on the CPU."""

    similarity_PNM: Tensor
    """float32; zero at padding"""
    mask0_PN: Tensor
    """bool, True where a source keypoint is real"""
    mask1_PM: Tensor
    """bool, True where a target keypoint is real"""
    match_PN: Tensor
    """int64, true target keypoint; -1 = none (padding included)"""
    category_P: Tensor
    """int64, index into the data set's categories"""


def similarities(
    score: Callable[[PairBatch], Tensor], batches: Iterable[PairBatch], *, device: torch.device
) -> Similarities:
    """Score every batch and stack the results.

    Args:
        score: batch -> (B, N, M) similarity.
        batches: evaluation batches, on any device; this rank's share.
        device: where to score.
    """
    (stored,) = similarities_of_each([score], batches, device=device)
    return stored


@torch.no_grad()
def similarities_of_each(
    scores: Sequence[Callable[[PairBatch], Tensor]], batches: Iterable[PairBatch], *, device: torch.device
) -> list[Similarities]:
    """Score every batch in several ways, in one pass over the batches; arguments as of `similarities`."""
    rows: list[list[Similarities]] = [[] for _ in scores]
    for batch in batches:
        batch = batch.to(device)
        for score, own in zip(scores, rows, strict=True):
            parts = (score(batch).float(), batch.source.mask_BN, batch.target.mask_BN, batch.match_BN, batch.category_B)
            own.append(Similarities(*(part.cpu() for part in parts)))
    return [_stacked(own) for own in rows]


def _stacked(rows: Sequence[Similarities]) -> Similarities:
    """Stack the similarities of batches, padded to the widest."""
    if not rows:  # more ranks than evaluation pairs
        none = torch.empty(0, 1, dtype=torch.int64)  # one keypoint wide, for argmax refuses a width of 0
        return Similarities(torch.empty(0, 1, 1), none.bool(), none.bool(), none, none[:, 0])
    num0 = max(row.similarity_PNM.shape[1] for row in rows)
    num1 = max(row.similarity_PNM.shape[2] for row in rows)

    def stack(name: str, widths: tuple[int, ...], fill: float) -> Tensor:
        parts = [getattr(row, name) for row in rows]
        # F.pad lists the last dimension first
        pads = [[x for d in range(p.dim() - 1, 0, -1) for x in (0, widths[d - 1] - p.shape[d])] for p in parts]
        return torch.cat([F.pad(p, pad, value=fill) for p, pad in zip(parts, pads, strict=True)])

    return Similarities(
        stack("similarity_PNM", (num0, num1), 0.0),
        stack("mask0_PN", (num0,), False),
        stack("mask1_PM", (num1,), False),
        stack("match_PN", (num0,), -1),
        torch.cat([row.category_P for row in rows]),
    )


def model_score(matcher: Matcher, *, autocast: torch.autocast) -> Callable[[PairBatch], Tensor]:
    """Make the score function of `matcher`: batch -> (B, N, M) similarity, computed in `autocast`."""

    def score(batch: PairBatch) -> Tensor:
        with autocast:
            return matcher(batch).similarity_BNM

    return score


def timed(score: Callable[[PairBatch], Tensor], taken: list[float]) -> Callable[[PairBatch], Tensor]:
    """Wrap `score` so that it appends the seconds per pair of each batch to `taken`."""

    def score_timed(batch: PairBatch) -> Tensor:
        started = time.perf_counter()
        similarity_BNM = score(batch)
        if similarity_BNM.is_cuda:  # kernels run after their call returns
            torch.cuda.synchronize(similarity_BNM.device)
        taken.append((time.perf_counter() - started) / len(similarity_BNM))
        return similarity_BNM

    return score_timed


def sweep(stored: Similarities, settings: Sequence[DecodeConfig], *, num_categories: int) -> dict[DecodeConfig, Counts]:
    """Count correct matches at every decoding.

    Decodings of one epsilon share their Sinkhorn iterations: 27 iterations pass through 1, 3 and 10 on the way.

    Args:
        stored: this rank's similarities.
        settings: the decodings.
        num_categories: number of categories.

    Returns:
        Decoding -> counts, summed over the ranks, in the order of `settings`.
    """
    found: dict[DecodeConfig, Counts] = {}
    by_epsilon = itertools.groupby(
        sorted(settings, key=lambda s: (s.epsilon, s.sinkhorn_iterations, s.assignment)), key=lambda s: s.epsilon
    )
    for epsilon, chain in by_epsilon:
        plan, done = sinkhorn(stored.similarity_PNM, stored.mask0_PN, stored.mask1_PM, epsilon=epsilon, iterations=0), 0
        for setting in chain:
            # An epsilon of 1 leaves the log plan as it is, so further iterations continue where the last ones ended.
            more = setting.sinkhorn_iterations - done
            plan = sinkhorn(plan, stored.mask0_PN, stored.mask1_PM, epsilon=1.0, iterations=more)
            done = setting.sinkhorn_iterations
            predicted_PN = assign(plan, stored.mask0_PN, stored.mask1_PM, assignment=setting.assignment)
            counts = count_correct(predicted_PN, stored.match_PN, stored.category_P, num_categories)
            found[setting] = counts.reduced()
    return {setting: found[setting] for setting in settings}


def predict(output: MatchOutput, setting: DecodeConfig) -> Tensor:
    """Decode the model's similarities: (B, N) int64, for each source keypoint its target keypoint, -1 = none."""
    return decode(
        output.similarity_BNM,
        output.mask0_BN,
        output.mask1_BM,
        epsilon=setting.epsilon,
        iterations=setting.sinkhorn_iterations,
        assignment=setting.assignment,
    )


def decodings_of(config: Config, grid: Sequence[DecodeConfig]) -> list[DecodeConfig]:
    """List the configured decoding, then those of the grid, each once.

    A matching loss that reads the Sinkhorn plan trains through its iterations and epsilon. These then stay as
    configured, and only the assignment varies.
    """
    decode = config.decode
    if config.loss.matching != "infonce":
        grid = [dataclasses.replace(decode, assignment=setting.assignment) for setting in grid]
    return list(dict.fromkeys([decode, *grid]))


def best_decoding(swept: dict[DecodeConfig, Counts]) -> DecodeConfig:
    """Return the decoding of highest accuracy; the first in the dictionary wins a tie."""
    return max(swept, key=lambda setting: swept[setting].accuracy())

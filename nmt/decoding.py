"""TODO docstring of nmt.decoding."""

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
from nmt.model.matcher import Matcher
from nmt.sinkhorn import assign, sinkhorn


@dataclass(frozen=True)
class Similarities:
    """Everything decoding needs of the evaluation pairs, padded to the longest, on the CPU."""

    similarity_PNM: Tensor
    mask0_PN: Tensor
    mask1_PM: Tensor
    match_PN: Tensor
    category_P: Tensor


@torch.no_grad()
def similarities(
    score: Callable[[PairBatch], Tensor], batches: Iterable[PairBatch], *, device: torch.device
) -> Similarities:
    """`score(batch)` -> (B, N, M) of every batch, stacked."""
    rows: list[Similarities] = []
    for batch in batches:
        batch = batch.to(device)
        parts = (score(batch).float(), batch.source.mask_BN, batch.target.mask_BN, batch.match_BN, batch.category_B)
        rows.append(Similarities(*(part.cpu() for part in parts)))
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
    """The similarity of `matcher` as a score function."""

    def score(batch: PairBatch) -> Tensor:
        with autocast:
            return matcher(batch).similarity_BNM

    return score


def timed(score: Callable[[PairBatch], Tensor], taken: list[float]) -> Callable[[PairBatch], Tensor]:
    """`score`, noting in `taken` the seconds a pair of each batch."""

    def score_timed(batch: PairBatch) -> Tensor:
        started = time.perf_counter()
        similarity_BNM = score(batch)
        if similarity_BNM.is_cuda:
            torch.cuda.synchronize(similarity_BNM.device)
        taken.append((time.perf_counter() - started) / len(similarity_BNM))
        return similarity_BNM

    return score_timed


def sweep(stored: Similarities, settings: Sequence[DecodeConfig], *, num_categories: int) -> dict[DecodeConfig, Counts]:
    """Counts at every decode setting (summed over ranks), reading each Sinkhorn chain once.

    The settings of one epsilon share their iterations: 27 iterations pass through 1, 3 and 10 on the way.
    """
    found: dict[DecodeConfig, Counts] = {}
    by_epsilon = itertools.groupby(
        sorted(settings, key=lambda s: (s.epsilon, s.sinkhorn_iterations, s.assignment)), key=lambda s: s.epsilon
    )
    for epsilon, chain in by_epsilon:
        plan, done = sinkhorn(stored.similarity_PNM, stored.mask0_PN, stored.mask1_PM, epsilon=epsilon, iterations=0), 0
        for setting in chain:
            more = setting.sinkhorn_iterations - done
            plan = sinkhorn(plan, stored.mask0_PN, stored.mask1_PM, epsilon=1.0, iterations=more)
            done = setting.sinkhorn_iterations
            predicted_PN = assign(plan, stored.mask0_PN, stored.mask1_PM, assignment=setting.assignment)
            counts = count_correct(predicted_PN, stored.match_PN, stored.category_P, num_categories)
            found[setting] = counts.reduced()
    return {setting: found[setting] for setting in settings}


def decodings_of(config: Config, grid: Sequence[DecodeConfig]) -> list[DecodeConfig]:
    """The configured decode setting, then those of the grid, each once.

    Where the matching loss goes through a Sinkhorn plan its iterations and epsilon belong to the training: they stay.
    """
    decode = config.decode
    if config.loss.matching != "infonce":
        grid = [dataclasses.replace(decode, assignment=setting.assignment) for setting in grid]
    return list(dict.fromkeys([decode, *grid]))


def best_decoding(swept: dict[DecodeConfig, Counts]) -> DecodeConfig:
    """The setting of highest accuracy; the first given wins a tie."""
    return max(swept, key=lambda setting: swept[setting].accuracy())

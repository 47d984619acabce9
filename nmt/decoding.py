"""Similarities of the evaluation pairs, and the accuracy of every decoding read from them.

A forward pass costs far more than decoding. So the similarities of all pairs are computed once and kept. A sweep over
Sinkhorn iterations, epsilon and assignment then reads the accuracy of each, with no forward pass of its own.

Letters as in nmt/batch.py; P evaluation pairs.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig
from nmt.metrics import Counts, count_correct
from nmt.model.matcher import Matcher, MatchOutput
from nmt.plans import LogPlan, Plan, fast_plan
from nmt.sinkhorn import decode

_AT_ONCE = {"cpu": 2**17, "cuda": 2**24}
"""similarities of a grid that are decoded at a time: as many as a core's cache holds, or some of a GPU's memory"""


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

    def parts(self, numbers: int) -> Iterator[Similarities]:
        """Cut into groups of pairs of about `numbers` similarities each."""
        step = max(1, numbers // self.similarity_PNM[:1].numel()) if len(self.category_P) else 1
        for first in range(0, len(self.category_P), step):
            yield Similarities(*(value[first : first + step] for value in self._values()))

    def halves(self) -> tuple[Similarities, Similarities]:
        """Cut into the first half of the pairs, the larger one, and the second."""
        middle = (len(self.category_P) + 1) // 2
        return Similarities(*(v[:middle] for v in self._values())), Similarities(*(v[middle:] for v in self._values()))

    def trimmed(self) -> Similarities:
        """Cut off the padding that no pair needs; one column of it stays where there is nothing else."""
        num0, num1 = (max(1, int(mask.sum(1).max())) for mask in (self.mask0_PN, self.mask1_PM))
        sim, mask0, mask1, match, category = self._values()
        return Similarities(sim[:, :num0, :num1], mask0[:, :num0], mask1[:, :num1], match[:, :num0], category)

    def to(self, device: torch.device) -> Similarities:
        """Copy to a device."""
        return Similarities(*(value.to(device) for value in self._values()))

    def _values(self) -> tuple[Tensor, ...]:
        return self.similarity_PNM, self.mask0_PN, self.mask1_PM, self.match_PN, self.category_P


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
    """Count correct matches at every decoding, each to the last digit what `decode` finds.

    Decodings of one epsilon share their Sinkhorn iterations: 27 iterations pass through 1, 3 and 10 on the way.

    Args:
        stored: this rank's similarities.
        settings: the decodings.
        num_categories: number of categories.

    Returns:
        Decoding -> counts, summed over the ranks, in the order of `settings`.
    """
    counted = _counted([stored], settings, LogPlan, num_categories)
    return {setting: counts.reduced() for setting, counts in counted.items()}


def sweep_grid(
    stored: Similarities,
    settings: Sequence[DecodeConfig],
    *,
    published: Sequence[DecodeConfig],
    num_categories: int,
    device: torch.device,
) -> dict[DecodeConfig, Counts]:
    """Count correct matches at every decoding of a grid, several times faster than `sweep`.

    Near-ties may be decided otherwise than `sweep` decides them, a few of 100,000: this one computes in float64.

    Args:
        stored, settings, num_categories: as of `sweep`.
        published: decodings whose counts are reported by themselves; these are counted as `sweep` does.
        device: where to decode.

    Returns:
        Decoding -> counts, summed over the ranks, in the order of `settings`.
    """
    exact, grid = [s for s in settings if s in published], [s for s in settings if s not in published]
    parts = (part.trimmed().to(device) for part in stored.parts(_AT_ONCE.get(device.type, _AT_ONCE["cpu"])))
    counted = _counted(parts, grid, fast_plan, num_categories)
    counted |= _counted([stored], exact, LogPlan, num_categories)
    return {setting: counted[setting].reduced() for setting in settings}  # ranks meet in this order


def _counted(
    parts: Iterable[Similarities],
    settings: Sequence[DecodeConfig],
    start: Callable[..., Plan],
    num_categories: int,
) -> dict[DecodeConfig, Counts]:
    """Count this rank's correct matches at every decoding.

    Args:
        parts: some pairs each.
        settings: the decodings.
        start: similarities, masks and epsilon -> their plan.
        num_categories: number of categories.
    """
    if not settings:
        return {}
    found = {setting: torch.zeros(2, num_categories, dtype=torch.float64) for setting in settings}
    ordered = sorted(settings, key=lambda s: (s.epsilon, s.sinkhorn_iterations, s.assignment))
    for part in parts:
        masks = part.mask0_PN, part.mask1_PM
        for epsilon, chain in itertools.groupby(ordered, key=lambda s: s.epsilon):
            plan, done = start(part.similarity_PNM, *masks, epsilon=epsilon), 0
            for setting in chain:
                plan.iterate(setting.sinkhorn_iterations - done)
                done = setting.sinkhorn_iterations
                predicted_PN = plan.assign(setting.assignment)
                counts = count_correct(predicted_PN, part.match_PN, part.category_P, num_categories)
                found[setting] += torch.stack([counts.correct_A, counts.total_A]).cpu()
    return {setting: Counts(*both) for setting, both in found.items()}


def predicted(stored: Similarities, setting: DecodeConfig) -> Tensor:
    """Decode stored similarities: (P, N) int64, for each source keypoint its target keypoint, -1 = none."""
    return _decoded(stored.similarity_PNM, stored.mask0_PN, stored.mask1_PM, setting)


def predict(output: MatchOutput, setting: DecodeConfig) -> Tensor:
    """Decode the model's similarities: (B, N) int64, for each source keypoint its target keypoint, -1 = none."""
    return _decoded(output.similarity_BNM, output.mask0_BN, output.mask1_BM, setting)


def _decoded(similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, setting: DecodeConfig) -> Tensor:
    return decode(
        similarity_BNM,
        mask0_BN,
        mask1_BM,
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

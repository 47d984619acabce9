"""Intervals that hold together, for several configurations that are compared with one reference over the same seeds.

With one 95 % interval each, ten equal configurations beat their reference in one of six confirmations. Here all
intervals of a comparison hold at once, with the stated confidence (Bonferroni). A confirmation has a winner with these
intervals exactly where it has one with Holm's procedure: the first step of Holm's is the same.

Few seeds know their own noise badly, and equal differences would give an interval without width. So the noise of a
difference is the largest of

- its own standard deviation over seeds,
- the median over all differences of the comparison, if there are three or more. Together they have
  3 K (n - 1) / (K + 2) degrees of freedom: differences that share the reference vary alike. The median, not the mean:
  one configuration that fails with some seeds must not widen the intervals of all others,
- a third of what the spread of the trainings over seeds would give without pairing by seed,
- that of coin flips: a gain of g over m keypoints changes at least g m keypoints.

`tests/bench/false_winners.py` shows by simulation that the level holds, also where one configuration is far noisier. A
pooled variance alone does not hold it: with a noisy reference, it names a winner in 11 of 100.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
PAIRING = 0.9
"""largest share of the variance of a difference that pairing by seed is believed to remove"""


def simultaneous_differences(values: Array, *, confidence: float, keypoints: int = 0) -> tuple[Array, Array]:
    """Return mean paired differences to the reference, and half of their intervals.

    Args:
        values: (..., 1 + K, n) accuracies in [0, 1]: the reference, then K configurations, over the same n seeds, n at
            least 2. Leading dimensions are separate comparisons.
        confidence: of all K intervals together, two-sided.
        keypoints: number of keypoints that an accuracy is computed over; 0 where it is not known.

    Returns:
        Two arrays (..., K).
    """
    from scipy.special import stdtrit

    differences = values[..., 1:, :] - values[..., :1, :]
    num, seeds = differences.shape[-2:]
    mean = differences.mean(-1)
    own = differences.var(-1, ddof=1)
    spread = values.var(-1, ddof=1)
    unpaired = spread[..., 1:] + spread[..., :1]
    gain = np.minimum(np.abs(mean), 1.0)
    flips = gain * (1 - gain) / keypoints if keypoints else np.zeros_like(gain)
    usual = np.median(own, -1, keepdims=True) if num > 2 else own
    variance = np.maximum(np.maximum(own, usual), np.maximum((1 - PAIRING) * unpaired, flips))
    freedom = (seeds - 1) * (3 * num / (num + 2) if num > 2 else 1)
    quantile = float(stdtrit(freedom, 1 - (1 - confidence) / (2 * num)))
    return mean, quantile * np.sqrt(variance / seeds)

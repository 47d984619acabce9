"""Which difference an experiment of a few paired seeds could have shown."""

from __future__ import annotations

from tune.results.statistics import CONFIDENCE

POWER = 0.8


def detectable(error: float, freedom: float) -> float:
    """Return the true difference that a two-sided t test finds with the probability `POWER`.

    Args:
        error: standard error of the measured difference.
        freedom: its degrees of freedom.

    Returns:
        The difference, in the unit of `error`; 0 where nothing varies.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import ndtr
    from scipy.stats import chi2, t

    # The test's limit in true standard errors, at equally likely estimates of it; scipy's nct returns NaN for some.
    estimates = np.sqrt(chi2.ppf((np.arange(2000) + 0.5) / 2000, freedom) / freedom)
    limit = t.ppf((1 + CONFIDENCE) / 2, freedom)

    def missing(shift: float) -> float:
        """Return how much power a difference of `shift` standard errors lacks."""
        return float(POWER - (ndtr(shift - limit * estimates) + ndtr(-shift - limit * estimates)).mean())

    return error * float(brentq(missing, 0.0, 4 * limit + 4))

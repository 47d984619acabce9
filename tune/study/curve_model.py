"""A Gaussian process over (configuration, epoch), fitted to the learning curves of a search. Plain NumPy and SciPy.

The value of run i with configuration x after epoch e is modelled as

    y(i, e) = trend(t) + level(x) + shape(x, t) + run(i, t) + noise,    t = log(e) / log(epochs)

The configuration enters by a Matern 5/2 kernel with a length for each of its places. So curves that were stopped early
tell what their neighbours reach at the end. Letters of shapes: N observations, M points, D places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

TREND, TREND_LENGTH, RUN_LENGTH = 0.5, 0.5, 1.0
"""variance of what all curves have in common, its length in t, and that of what is a run's own"""
USUAL = {"level": 0.6, "shape": 0.15, "shape_length": 0.4, "run": 0.02, "noise": 0.004}
"""medians of the log-normal priors, for standardised values: variances, and the length of `shape` in t"""
SPREAD = {"level": 0.7, "shape": 0.7, "shape_length": 0.5, "run": 0.8, "noise": 0.8}
LENGTH, LENGTH_SPREAD = 0.5, 0.8
"""prior of the length of each place, whose range is 1"""
FARTHEST = 3.0
"""most standard deviations of its prior that a parameter goes from its median; keeps every matrix well conditioned"""
STEPS = 30
FITTED = 150
"""most observations that the parameters of the model are fitted to; the predictions use all"""


@dataclass(frozen=True)
class Observations:
    """Values of trainings at some of their epochs."""

    x_ND: Array
    """configurations: numbers as places in [0, 1]"""
    run_N: NDArray[np.int64]
    """which training"""
    t_N: Array
    """log(epoch) / log(epochs)"""
    y_N: Array
    """values, standardised"""

    def __len__(self) -> int:
        return len(self.y_N)

    def joined(self, other: Observations) -> Observations:
        """Return the observations of both."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("x_ND", "run_N", "t_N", "y_N"))
        return Observations(*(np.concatenate(pair) for pair in pairs))

    def chosen(self, index: NDArray[np.int64]) -> Observations:
        """Return some of the observations."""
        return Observations(self.x_ND[index], self.run_N[index], self.t_N[index], self.y_N[index])


class CurveModel:
    """The Gaussian process, its parameters at the most probable values.

    The fit starts from the medians of the priors and draws nothing at random: the same observations give the same
    model.

    Args:
        seen: at least one observation.
        named_D: which places are names; two different names are 1 apart, whatever their places.
    """

    def __init__(self, seen: Observations, named_D: NDArray[np.bool_]) -> None:
        self._named_D = named_D
        self._seen = seen
        places = len(named_D)
        self._usual = np.log([*[LENGTH] * places, *USUAL.values()])
        self._spread = np.array([*[LENGTH_SPREAD] * places, *SPREAD.values()])
        part = seen
        if len(seen) > FITTED:
            part = seen.chosen(np.linspace(0, len(seen) - 1, FITTED).round().astype(np.int64))
        self._parameters = self._fit(part)
        self._factorise()

    def with_believed(self, x_MD: Array, run_M: NDArray[np.int64], t_M: Array) -> CurveModel:
        """Return the model after seeing at these points just what it predicts there. Its parameters stay."""
        mean_M, _ = self.predict(x_MD, run_M, t_M)
        believed = CurveModel.__new__(CurveModel)
        believed.__dict__.update(self.__dict__)
        believed._seen = self._seen.joined(Observations(x_MD, run_M, t_M, mean_M))
        believed._factorise()
        return believed

    def predict(self, x_MD: Array, run_M: NDArray[np.int64], t_M: Array) -> tuple[Array, Array]:
        """Predict values without their noise: mean (M,) and standard deviation (M,).

        Args:
            run_M: which training each point belongs to; a number that was not observed is a new one.
        """
        points = Observations(x_MD, run_M, t_M, np.zeros(len(x_MD)))
        length_D, kernel = np.exp(self._parameters[: len(self._named_D)]), self._of_epochs(points, self._seen)
        cross_MN = _matern(self._differences(points, self._seen), length_D)[0] * kernel.of_x + kernel.rest
        whitened_NM = solve_triangular(self._lower_NN, cross_MN.T, lower=True)
        level, shape, _, run, _ = np.exp(self._parameters[len(self._named_D) :])
        variance_M = level + shape + run + TREND - (whitened_NM**2).sum(0)
        return cross_MN @ self._weights_N, np.sqrt(np.maximum(variance_M, 1e-10))

    def _factorise(self) -> None:
        seen, places = self._seen, len(self._named_D)
        kernel = self._of_epochs(seen, seen)
        matern_NN, _ = _matern(self._differences(seen, seen), np.exp(self._parameters[:places]))
        together_NN = matern_NN * kernel.of_x + kernel.rest + np.exp(self._parameters[-1]) * np.eye(len(seen))
        factor = cho_factor(together_NN, lower=True)
        self._lower_NN = np.tril(factor[0])
        self._weights_N = cho_solve(factor, seen.y_N)

    def _fit(self, seen: Observations) -> Array:
        """Return the parameters of the highest posterior density, found by L-BFGS from the medians of the priors."""
        known = self._differences(seen, seen), *_of_time(seen, seen)
        reach = FARTHEST * self._spread
        bounds = list(zip(self._usual - reach, self._usual + reach, strict=True))
        found = minimize(
            self.loss,
            self._usual,
            args=(seen.y_N, *known),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": STEPS},
        )
        return np.asarray(found.x)

    def loss(
        self, parameters: Array, y_N: Array, squares_DNN: Array, times_NN: Array, same_NN: Array
    ) -> tuple[float, Array]:
        """Return the negative logarithm of the posterior density of parameters, but for a constant, and its gradient.

        Args:
            parameters: logarithms of the lengths (D,), and of level, shape, its length, run and noise.
            y_N: values, standardised.
            squares_DNN: squared differences of the configurations.
            times_NN: squared differences in t.
            same_NN: 1 where two values are of one run, else 0.
        """
        places, identity_NN = len(squares_DNN), np.eye(len(y_N))
        level, shape, length, run, noise = np.exp(parameters[places:])
        matern_NN, slope_DNN = _matern(squares_DNN, np.exp(parameters[:places]))
        kernel = _Kernel.of(times_NN, same_NN, level=level, shape=shape, length=length, run=run)
        factor = cho_factor(matern_NN * kernel.of_x + kernel.rest + noise * identity_NN, lower=True)
        inverse_NN = cho_solve(factor, identity_NN)
        weights_N = inverse_NN @ y_N
        pull_NN = 0.5 * (inverse_NN - np.outer(weights_N, weights_N))
        off = (parameters - self._usual) / self._spread
        value = 0.5 * y_N @ weights_N + np.log(np.diag(factor[0])).sum() + 0.5 * off @ off
        by_shape_NN = pull_NN * matern_NN * kernel.shape * shape
        own = [
            (pull_NN * matern_NN).sum() * level,
            by_shape_NN.sum(),
            (by_shape_NN * times_NN).sum() / length**2,
            (pull_NN * kernel.run).sum() * run,
            np.trace(pull_NN) * noise,
        ]
        of_lengths = np.tensordot(slope_DNN, pull_NN * kernel.of_x, axes=2)
        return float(value), np.concatenate([of_lengths, own]) + off / self._spread

    def _differences(self, one: Observations, other: Observations) -> Array:
        """Return the squared differences of the configurations in each place, (D, M, N)."""
        differences_DMN = one.x_ND.T[:, :, None] - other.x_ND.T[:, None]
        squares_DMN: Array = np.where(self._named_D[:, None, None], differences_DMN != 0, differences_DMN**2)
        return squares_DMN

    def _of_epochs(self, one: Observations, other: Observations) -> _Kernel:
        level, shape, length, run, _ = np.exp(self._parameters[len(self._named_D) :])
        return _Kernel.of(*_of_time(one, other), level=level, shape=shape, length=length, run=run)


@dataclass(frozen=True)
class _Kernel:
    """The parts of the kernel that do not depend on the configurations."""

    of_x: Array
    """factor of the kernel of the configurations"""
    rest: Array
    """trend and run, added to it"""
    shape: Array
    """kernel of `shape` in t, of variance 1"""
    run: Array
    """kernel of `run`, of variance 1"""

    @classmethod
    def of(cls, squares: Array, same: Array, *, level: float, shape: float, length: float, run: float) -> _Kernel:
        """Build it from the squared differences in t, and from which pairs are of one run."""
        in_t = np.exp(-0.5 * squares / length**2)
        own = same * np.exp(-0.5 * squares / RUN_LENGTH**2)
        trend = TREND * np.exp(-0.5 * squares / TREND_LENGTH**2)
        return cls(level + shape * in_t, trend + run * own, in_t, own)


def _of_time(one: Observations, other: Observations) -> tuple[Array, Array]:
    """Return the squared differences in t, and 1 where two observations are of one run, else 0; both (M, N)."""
    squares = (one.t_N[:, None] - other.t_N[None]) ** 2
    return squares, (one.run_N[:, None] == other.run_N[None]).astype(np.float64)


def _matern(squares_DMN: Array, length_D: Array) -> tuple[Array, Array]:
    """Return the Matern 5/2 kernel (M, N), and its derivative by the logarithm of each length (D, M, N)."""
    scaled_DMN = squares_DMN / length_D[:, None, None] ** 2
    distance = np.sqrt(5.0 * scaled_DMN.sum(0))
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, (5 / 3) * ((1 + distance) * decay) * scaled_DMN


def log_expected_improvement(mean_M: Array, deviation_M: Array, best: float) -> Array:
    """Return the logarithm of how much more than `best` each value is expected to be, without underflow."""
    from scipy.special import erfcx, ndtr

    gain = np.maximum((mean_M - best) / deviation_M, -1e5)
    below = np.minimum(gain, 0.0)
    # phi(u) + u Phi(u) = phi(u) (1 + u sqrt(pi / 2) erfcx(-u / sqrt(2))), for u < 0 without a difference of small terms
    tail = np.log1p(below * math.sqrt(math.pi / 2) * erfcx(-below / math.sqrt(2))) - 0.5 * below**2
    above = np.maximum(gain, 0.0)
    density = np.exp(-0.5 * above**2) / math.sqrt(2 * math.pi)
    log_h = np.where(gain < 0, tail - 0.5 * math.log(2 * math.pi), np.log(density + above * ndtr(above)))
    return np.asarray(np.log(deviation_M) + log_h)

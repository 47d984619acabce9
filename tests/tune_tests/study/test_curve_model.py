from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from tune.study.curve_model import CurveModel, Observations, log_expected_improvement

NAMED = np.array([False, False, True])


def curves(runs: int = 12, epochs: int = 3, seed: int = 0) -> Observations:
    """Runs of three values each, better near x = 0.7 and with the second name; the second place does not matter."""
    rng = np.random.default_rng(seed)
    x_RD = np.column_stack([rng.random((runs, 2)), rng.integers(0, 2, runs)])
    run_N, t_N = np.repeat(np.arange(runs), epochs), np.tile(np.linspace(0, 1, epochs), runs)
    x_ND = x_RD[run_N]
    y_N = -4 * (x_ND[:, 0] - 0.7) ** 2 + x_ND[:, 2] + t_N + rng.normal(0, 0.02, len(t_N))
    return Observations(x_ND, run_N, t_N, (y_N - y_N.mean()) / y_N.std())


def points(*rows: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array(rows), np.full(len(rows), 99), np.ones(len(rows))


def test_gradient_is_that_of_the_loss() -> None:
    seen = curves()
    model = CurveModel(seen, NAMED)
    squares = np.where(NAMED[:, None, None], seen.x_ND.T[:, :, None] != seen.x_ND.T[:, None], 0.0)
    squares[:2] = (seen.x_ND.T[:2, :, None] - seen.x_ND.T[:2, None]) ** 2
    times, same = (seen.t_N[:, None] - seen.t_N) ** 2, (seen.run_N[:, None] == seen.run_N).astype(float)
    at = np.random.default_rng(1).normal(-1.0, 0.5, 8)
    value, gradient = model.loss(at, seen.y_N, squares, times, same)
    numeric = approx_fprime(at, lambda p: model.loss(p, seen.y_N, squares, times, same)[0], 1e-6)
    assert np.isfinite(value) and gradient == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_model_learns_which_places_matter_and_predicts_the_end_of_new_curves() -> None:
    model = CurveModel(curves(), NAMED)
    mean, deviation = model.predict(*points((0.7, 0.5, 1), (0.7, 0.5, 0), (0.0, 0.5, 1), (0.7, 0.0, 1)))
    assert mean[0] > mean[1] + 0.5 and mean[0] > mean[2] + 0.5  # the name, the first number
    assert abs(mean[0] - mean[3]) < 0.3  # the second number
    assert (deviation > 0).all()


def test_curve_stopped_early_counts_for_what_its_neighbours_reached() -> None:
    seen = curves()
    early = seen.t_N < 0.9
    stopped = seen.chosen(np.flatnonzero(early | (seen.run_N < 6)))
    model = CurveModel(stopped, NAMED)
    whole = seen.run_N >= 6
    at = whole & ~early
    mean, deviation = model.predict(seen.x_ND[at], seen.run_N[at], seen.t_N[at])
    assert np.abs(mean - seen.y_N[at]).mean() < 0.3
    _, of_new = model.predict(seen.x_ND[at], np.full(at.sum(), 99), seen.t_N[at])
    assert (deviation <= of_new + 1e-9).all()  # of its own run more is known than of a second one like it


def test_prediction_is_that_of_the_textbook_formula() -> None:
    seen = curves(runs=4)
    model = CurveModel(seen, NAMED)
    lengths, (level, shape, length, run, noise) = np.exp(model._parameters[:3]), np.exp(model._parameters[3:])

    def kernel(i: tuple[np.ndarray, int, float], j: tuple[np.ndarray, int, float]) -> float:
        apart = np.where(NAMED, i[0] != j[0], i[0] - j[0]) / lengths
        r, time = np.sqrt(5 * (apart**2).sum()), (i[2] - j[2]) ** 2
        of_x = (1 + r + r**2 / 3) * np.exp(-r) * (level + shape * np.exp(-time / 2 / length**2))
        return float(of_x + 0.5 * np.exp(-time / 2 / 0.25) + (i[1] == j[1]) * run * np.exp(-time / 2))

    rows = list(zip(seen.x_ND, seen.run_N, seen.t_N, strict=True))
    new = (np.array([0.3, 0.6, 1.0]), 99, 1.0)
    covariance = np.array([[kernel(a, b) for b in rows] for a in rows]) + noise * np.eye(len(rows))
    cross = np.array([kernel(new, b) for b in rows])
    mean, deviation = model.predict(*points((0.3, 0.6, 1)))
    assert mean[0] == pytest.approx(cross @ np.linalg.solve(covariance, seen.y_N))
    assert deviation[0] ** 2 == pytest.approx(kernel(new, new) - cross @ np.linalg.solve(covariance, cross))


def test_believed_value_changes_no_mean_and_leaves_less_to_gain() -> None:
    model = CurveModel(curves(), NAMED)
    at = points((0.75, 0.4, 1))
    believed = model.with_believed(at[0], np.array([50]), at[2])
    (mean, deviation), (after, less) = model.predict(*at), believed.predict(*at)
    assert after == pytest.approx(mean, abs=1e-6) and less[0] < deviation[0]


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0, 1.0]])
def test_one_value_or_equal_ones_make_a_model(values: list[float]) -> None:
    count = len(values)
    model = CurveModel(Observations(np.zeros((count, 3)), np.arange(count), np.ones(count), np.array(values)), NAMED)
    mean, deviation = model.predict(*points((0.5, 0.5, 1)))
    assert np.isfinite(mean).all() and np.isfinite(deviation).all()


def test_many_observations_are_all_used_and_equal_ones_give_equal_models() -> None:
    seen = curves(runs=60)
    first, second = CurveModel(seen, NAMED), CurveModel(seen, NAMED)
    at = points((0.2, 0.2, 0), (0.7, 0.1, 1))
    assert np.array_equal(first.predict(*at)[0], second.predict(*at)[0])
    last = seen.chosen(np.arange(len(seen) - 3, len(seen)))
    mean, _ = first.predict(last.x_ND, last.run_N, last.t_N)
    assert np.abs(mean - last.y_N).max() < 0.2


def test_logarithm_of_the_expected_improvement() -> None:
    gain = np.array([-1e6, -300.0, -30.0, -3.0, 0.0, 2.0])
    found = log_expected_improvement(gain, np.ones(6), 0.0)
    assert np.isfinite(found).all() and (np.diff(found) >= 0).all()
    draws = np.random.default_rng(0).normal(size=400_000)
    for u, log in zip(gain[3:], found[3:], strict=True):
        assert np.exp(log) == pytest.approx(np.maximum(u + draws, 0).mean(), rel=0.05)
    assert found[1] == pytest.approx(-0.5 * 300**2 - np.log(np.sqrt(2 * np.pi) * 300**2), rel=1e-6)

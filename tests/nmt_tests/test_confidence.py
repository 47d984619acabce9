import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.confidence import (
    Calibration,
    Rows,
    area_under_curve,
    calibration_error,
    chosen_calibration,
    confidence_of,
    dustbin_plan,
    evidence,
    figures,
    fit,
    match_confidence,
)
from nmt.errors import UserError

CALIBRATION = Calibration(
    weights=(1.0, -0.5, -0.25, 2.0),
    bias=0.5,
    threshold=0.4,
    chosen="f1",
    pairs={"inter": 3},
    figures={"inter": {"f1": 0.75}},
    curve=((0.0, 0.5), (0.5, 0.8), (0.75, 0.7), (0.9, 0.95)),
)


def masks(num0, num1, width0, width1):
    return (torch.arange(width0) < num0)[None], (torch.arange(width1) < num1)[None]


def superglue(scores, alpha, iterations):
    """The published formulation, for one pair without padding (Sarlin et al. 2020, section 3.2 and its code)."""
    num0, num1 = scores.shape
    column, row, corner = (torch.full(size, alpha) for size in ((num0, 1), (1, num1), (1, 1)))
    couplings = torch.cat([torch.cat([scores, column], 1), torch.cat([row, corner], 1)], 0)
    norm = -math.log(num0 + num1)
    log_mu = torch.tensor([norm] * num0 + [math.log(num1) + norm])
    log_nu = torch.tensor([norm] * num1 + [math.log(num0) + norm])
    u, v = torch.zeros(num0 + 1), torch.zeros(num1 + 1)
    for _ in range(iterations):
        u = log_mu - torch.logsumexp(couplings + v[None, :], 1)
        v = log_nu - torch.logsumexp(couplings + u[:, None], 0)
    return couplings + u[:, None] + v[None, :] - norm


def test_plan_equals_the_published_formulation():
    scores = torch.tensor([[0.9, 0.1, -0.2], [0.3, 0.8, 0.0]])
    plan = dustbin_plan(scores[None], *masks(2, 3, 2, 3), score=-0.4, epsilon=0.1, iterations=27)[0]
    assert torch.allclose(plan, superglue(scores / 0.1, -0.4 / 0.1, 27), atol=1e-5)


def test_plan_of_one_keypoint_each_solves_the_two_equations():
    # One keypoint each, all scores equal: by symmetry x + b = 1 in every row and column, and x b' = b b' gives 1/2.
    plan = dustbin_plan(torch.zeros(1, 1, 1), *masks(1, 1, 1, 1), score=0.0).exp()[0]
    assert torch.allclose(plan, torch.full((2, 2), 0.5))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**31))
def test_plan_has_its_marginals_and_padding_changes_nothing(num0, num1, more0, more1, seed):
    similarity = torch.rand((1, num0, num1), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    real = masks(num0, num1, num0, num1)
    plan = dustbin_plan(similarity, *real, iterations=400).exp()
    assert torch.allclose(plan.sum(1)[0], torch.tensor([1.0] * num1 + [num0]), atol=1e-4)
    assert torch.allclose(plan.sum(2)[0], torch.tensor([1.0] * num0 + [num1]), atol=1e-2)
    wide = torch.nn.functional.pad(similarity, (0, more1, 0, more0), value=3.0)
    padded_masks = masks(num0, num1, num0 + more0, num1 + more1)
    padded = dustbin_plan(wide, *padded_masks, iterations=400).exp()
    rows, columns = [*range(num0), num0 + more0], [*range(num1), num1 + more1]
    assert torch.allclose(padded[0][rows][:, columns], plan[0], atol=1e-5)
    assert float(padded.sum()) == pytest.approx(float(plan.sum()), abs=1e-4)
    target = dustbin_plan(wide, *padded_masks)[:, :-1, :-1].argmax(2).masked_fill(~padded_masks[0], -1)
    assert (target[0, num0:] == -1).all() and (target[0, :num0] >= 0).all() and (target < num1).all()
    alone = match_confidence(similarity, *real, target[:, :num0], CALIBRATION)
    beside = match_confidence(wide, *padded_masks, target, CALIBRATION)
    assert torch.allclose(beside[:, :num0], alone, atol=1e-4) and (beside[:, num0:] == 0).all()


def test_a_keypoint_unlike_all_others_leaves_its_mass_in_the_dustbin():
    similarity = torch.tensor([[[0.9, -0.8], [-0.9, -0.9]]])
    plan = dustbin_plan(similarity, *masks(2, 2, 2, 2)).exp()[0]
    assert plan[0, 0] > 0.9 and plan[1, 2] > 0.9 and plan[2, 1] > 0.9


def test_evidence_holds_the_plan_at_the_chosen_target():
    similarity = torch.tensor([[[0.9, -0.8], [-0.9, -0.5], [0.1, 0.3]]])
    real = masks(3, 2, 3, 2)
    plan = dustbin_plan(similarity, *real)[0]
    found = evidence(similarity, *real, torch.tensor([[1, -1, 0]]))[0]
    mean = (-0.8 + 0.1) / 2  # over the two that have a target
    assert torch.allclose(found[0], torch.stack([plan[0, 1], plan[0, 2], plan[3, 1], torch.tensor(mean)]))
    assert torch.allclose(found[2], torch.stack([plan[2, 0], plan[2, 2], plan[3, 0], torch.tensor(mean)]))
    assert (found[1] == 0).all()


def test_without_calibration_a_confidence_is_the_entry_of_the_plan():
    similarity = torch.tensor([[[0.9, -0.8], [-0.9, -0.5], [0.1, 0.3]]])
    real = masks(3, 2, 3, 2)
    plan = dustbin_plan(similarity, *real)[0].exp()
    found = match_confidence(similarity, *real, torch.tensor([[1, -1, 0]]), None)[0]
    assert torch.allclose(found, torch.stack([plan[0, 1], torch.tensor(0.0), plan[2, 0]]))


def drawn_rows(num=4000, seed=0):
    """Rows whose probability of being right is a known logistic function of the evidence."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn((num, 4), generator=generator)
    truth = dataclasses.replace(CALIBRATION, weights=(2.0, -1.0, 0.0, 0.5), bias=0.3)
    right = torch.rand(num, generator=generator) < confidence_of(numbers, truth)
    return Rows(numbers, right, int(right.sum()) + 100), truth


def test_fit_finds_the_function_that_the_rows_were_drawn_from():
    rows, truth = drawn_rows()
    found = fit({"a": rows}, {"a": 10})
    assert found.weights == pytest.approx(truth.weights, abs=0.25) and found.bias == pytest.approx(0.3, abs=0.15)
    assert found.figures["a"]["ece"] < 0.03 and found.figures["a"]["auc"] > 0.85
    assert found.pairs == {"a": 10} and found.chosen == "f1"


def test_fitted_threshold_has_the_highest_f1():
    rows, _ = drawn_rows(num=300)
    found = fit({"a": rows}, {"a": 10})
    tried = [figures(rows, dataclasses.replace(found, threshold=t / 500))["f1"] for t in range(500)]
    assert figures(rows, found)["f1"] >= max(tried)


@pytest.mark.parametrize("right", [True, False])
def test_rows_that_are_all_alike_give_finite_numbers(right):
    rows = Rows(torch.zeros(5, 4), torch.full((5,), right), 5)
    found = fit({"a": rows}, {"a": 1})
    assert all(map(math.isfinite, (*found.weights, found.bias, found.threshold)))
    assert "auc" not in found.figures["a"] and found.figures["a"]["f1"] == float(right)


def test_no_rows_cannot_be_fitted():
    with pytest.raises(ValueError, match="no matches"):
        fit({"a": Rows(torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), 0)}, {"a": 0})


def test_figures_of_rows_counted_by_hand():
    # Confidence = sigmoid of the first number; kept are the first three, two of them right; five could be matched.
    numbers = torch.zeros(5, 4)
    numbers[:, 0] = torch.tensor([3.0, 2.0, 1.0, -1.0, -2.0])
    rows = Rows(numbers, torch.tensor([True, False, True, True, False]), 5)
    plain = dataclasses.replace(CALIBRATION, weights=(1.0, 0.0, 0.0, 0.0), bias=0.0, threshold=0.5)
    found = figures(rows, plain)
    assert found["precision"] == pytest.approx(2 / 3) and found["recall"] == pytest.approx(2 / 5)
    assert found["f1"] == pytest.approx(0.5) and found["kept"] == pytest.approx(3 / 5)
    assert found["auc"] == pytest.approx(4 / 6)  # of six pairs right > wrong: 3 > 2, 3 > -2, 1 > -2, -1 > -2


def test_area_counts_ties_half_and_error_is_the_distance_of_the_means():
    assert area_under_curve(torch.tensor([0.5, 0.5]), torch.tensor([True, False])) == 0.5
    assert area_under_curve(torch.tensor([0.5, 0.5]), torch.tensor([True, True])) is None
    confidence, right = torch.tensor([0.75, 0.75, 0.15]).double(), torch.tensor([True, False, False])
    assert calibration_error(confidence, right) == pytest.approx((2 * 0.25 + 0.15) / 3)


@pytest.mark.parametrize(
    ("unmatched", "threshold"),
    [("f1", 0.4), ("off", 0.0), ("precision=0.6", 0.5), ("precision=0.9", 0.9), ("0.33", 0.33)],
)
def test_threshold_is_chosen_as_asked(unmatched, threshold):
    found = CALIBRATION.with_threshold(unmatched, source="here")
    assert (found.threshold, found.chosen) == (threshold, unmatched)


def test_a_checkpoint_without_confidences_keeps_every_match_or_says_what_to_do():
    assert chosen_calibration(None, "off", source="best.pt") is None
    assert chosen_calibration(CALIBRATION, "0.2", source="best.pt").threshold == 0.2
    for unmatched in ("f1", "precision=0.9", "0.2"):
        with pytest.raises(UserError, match=rf"^best\.pt: has no confidences, which decode.unmatched = {unmatched} .*"):
            chosen_calibration(None, unmatched, source="best.pt")


def test_a_precision_out_of_reach_names_the_highest():
    with pytest.raises(UserError, match=r"^here: decode.unmatched = precision=0.99: .* 0.95$"):
        CALIBRATION.with_threshold("precision=0.99", source="here")


def test_calibration_survives_json():
    assert Calibration.from_dict(json.loads(json.dumps(CALIBRATION.to_dict())), source="x") == CALIBRATION


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [1.0, 2.0]},
        {"weights": [1.0, 2.0, 3.0, float("nan")]},
        {"bias": None},
        {"threshold": 1.5},
        {"curve": [1, 2]},
        {"pairs": 3},
        {"figures": {"inter": 4}},
        None,
    ],
)
def test_a_damaged_calibration_is_refused_with_its_file(change):
    content = None if change is None else CALIBRATION.to_dict() | change
    with pytest.raises(UserError, match=r"^best\.pt: its calibration is damaged .*restore the file"):
        Calibration.from_dict(content, source="best.pt")


def test_three_sources_and_three_targets_by_hand():
    # Sources 0 and 2 have the partners 0 and 1; source 1 and target 2 have none. Each takes its most alike target.
    similarity = torch.tensor([[[0.9, 0.1, 0.0], [0.0, 0.2, 0.6], [0.1, 0.3, 0.7]]])
    mask, match = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[0, -1, 1]])
    target = similarity.argmax(2)
    rows = Rows.of(similarity, mask, mask, target, match)
    assert rows.right_R.tolist() == [True, False, False] and rows.matchable == 2
    # A confidence of its own for each: 0.95, 0.55 and 0.25.
    numbers = torch.zeros(3, 4)
    numbers[:, 0] = torch.tensor([0.95, 0.55, 0.25]).logit()
    plain = dataclasses.replace(CALIBRATION, weights=(1.0, 0.0, 0.0, 0.0), bias=0.0, threshold=0.5)
    found = figures(dataclasses.replace(rows, evidence_R4=numbers), plain)
    assert found["precision"] == 1 / 2 and found["recall"] == 1 / 2 and found["f1"] == 1 / 2
    assert found["kept"] == 2 / 3 and found["auc"] == 1.0
    assert found["ece"] == pytest.approx((0.05 + 0.55 + 0.25) / 3, abs=1e-6)

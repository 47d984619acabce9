"""PCK with numbers that one can derive by hand, and what holds for any positions."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.bootstrap import MEAN, intervals
from nmt.data.store.objects import OBJECTS_FILE, ObjectStore
from nmt.data.store.writer import RawObject
from nmt.data.stream.pairs import eval_pairs
from nmt.inference.evaluate import MODEL, Evaluation, evaluate_checkpoint, evaluate_pairs
from nmt.inference.pck import ALPHAS, Targets, counts, counts_by_chance, is_pck, measure, pck_figures
from nmt.pair_results import PairResults
from tests.nmt_tests.toy_training import small

SIZE = 64
AT = [(0.0, 0.0), (4.0, 0.0), (0.0, 9.0), (0.0, 32.0)]
"""keypoints c0, c1, c2, c3 of every object, pixels of the photograph"""


def objects(num: int = 2, **changes) -> list[RawObject]:
    """Photographs of 128 x 32 pixels, resized to a square."""
    points = {f"c{k}": (x * SIZE / 128, y * SIZE / 32) for k, (x, y) in enumerate(AT)}
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    given = {"shown": (128.0, 32.0), "box": (100.0, 25.0)} | changes
    return [RawObject(str(k), "chair", "test", str(k), image, points, **given) for k in range(num)]


def made(make_store, **changes) -> tuple[ObjectStore, list, Targets]:
    store = make_store(objects(**changes))
    # In stored order on both sides: keypoint k of the source matches k of the target.
    order = np.arange(4)
    shuffled = eval_pairs(store, small().data, split="test")
    pairs = [dataclasses.replace(p, positions1=order, keypoints1=order, match_N=order) for p in shuffled]
    return store, pairs, Targets.of(store, pairs)


def right(targets: Targets, predicted: list[int], alpha: float) -> float:
    """Right keypoints of the first pair, whose source keypoints 0 to 3 match 0 to 3."""
    match_PN = torch.arange(4).expand(len(targets.points_PM2), 4)
    return counts("x", torch.tensor(predicted).expand_as(match_PN), match_PN, targets, [alpha])[measure("x", alpha)][0]


def test_distances_are_those_of_the_photograph_by_the_longer_side_of_the_box(make_store):
    _, pairs, targets = made(make_store)
    assert targets.boxes == len(pairs) == 2
    # Keypoints 0 and 1 are 4 pixels apart, 0 and 2 are 9, 0 and 3 are 32; the box is 100 pixels wide.
    for other, distance in ((1, 4), (2, 9), (3, 32)):
        predicted = [other, 1, 2, 3]  # keypoint 0 is matched wrongly
        assert right(targets, predicted, (distance - 0.01) / 100) == 3
        assert right(targets, predicted, distance / 100) == 4  # the limit itself is near
    # All four go to keypoint 0: 0 and 4 pixels are within 5, 9 within 10, and 32 is not within 15.
    assert [right(targets, [0] * 4, alpha) for alpha in ALPHAS] == [2, 3, 3]
    assert right(targets, [-1] * 4, 100.0) == 0  # no prediction is right at any alpha


def test_without_an_annotated_box_the_one_around_all_keypoints_counts(make_store):
    _, _, targets = made(make_store, box=None)
    assert targets.boxes == 0  # 4 x 32 pixels around the keypoints
    assert right(targets, [1, 1, 2, 3], 4 / 32) == 4 and right(targets, [1, 1, 2, 3], 3.9 / 32) == 3


def test_an_object_without_sizes_of_its_photograph_is_measured_in_its_square(make_store):
    _, _, targets = made(make_store, shown=None, box=(64.0, 64.0))
    assert right(targets, [1, 1, 2, 3], 2 / 64) == 4  # 4 of 128 pixels are 2 of 64


def test_keypoints_at_one_point_are_near_each_other_alone(make_store):
    raw = dataclasses.replace(objects()[0], box=None, points=dict.fromkeys(("c0", "c1", "c2", "c3"), (7.0, 7.0)))
    store = make_store([raw, dataclasses.replace(raw, id="b", photo="b")])
    targets = Targets.of(store, eval_pairs(store, small().data, split="test"))
    assert right(targets, [3, 2, 1, 0], 0.05) == 4


def test_chance_is_the_mean_over_all_targets_and_padding_is_never_near(make_store):
    _, _, targets = made(make_store)
    padded_PM2 = torch.nn.functional.pad(targets.points_PM2, (0, 0, 0, 3), value=torch.inf)
    wide = dataclasses.replace(targets, points_PM2=padded_PM2)
    match_PN, mask1_PM = torch.tensor([[0, 1, 2, 3, -1]] * 2), torch.tensor([[True] * 4 + [False] * 3] * 2)
    found = counts_by_chance("chance", mask1_PM, match_PN, wide)
    # Within 10 pixels lie 3 targets of keypoints 0, 1 and 2 (1 and 2 are 9.8 apart), and 1 of keypoint 3.
    assert found[measure("chance", 0.1)].tolist() == [2.5, 2.5] and found["chance"].tolist() == [1, 1]
    each = [counts("x", torch.full_like(match_PN, m), match_PN, wide, [0.1])[measure("x", 0.1)][0] for m in range(4)]
    assert np.mean(each) == 2.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.lists(st.floats(1e-3, 2), min_size=2, max_size=5))
def test_pck_grows_with_alpha_from_accuracy_to_all_that_is_predicted(seed, num, alphas):
    rng = np.random.default_rng(seed)
    targets = Targets(torch.from_numpy(rng.random((3, num, 2))), torch.ones(3, 2), 3)
    match_PN = torch.from_numpy(np.stack([rng.permutation(num) for _ in range(3)]))
    match_PN[torch.from_numpy(rng.random((3, num)) < 0.2)] = -1
    predicted_PN = torch.from_numpy(rng.integers(-1, num, (3, num)))
    found = counts("x", predicted_PN, match_PN, targets, [1e-12, *sorted(alphas), 1.5])
    in_order = torch.stack([*found.values()])
    assert (in_order.diff(dim=0) >= 0).all()  # the first is the accuracy
    assert (in_order[1] == in_order[0]).all()  # positions are distinct
    assert (found[measure("x", 1.5)] == ((match_PN >= 0) & (predicted_PN >= 0)).sum(1)).all()


def results(right: list[float], total: list[float], category: list[int]) -> PairResults:
    photographs = np.arange(2 * len(total)).reshape(-1, 2)
    named = {MODEL: np.zeros(len(total))} | {measure(MODEL, alpha): np.array(right) for alpha in ALPHAS}
    return PairResults(("cup", "fish"), photographs, np.array(category), np.array(total), named)


def figures(*given):
    found = results(*given)
    nowhere = torch.zeros(len(given[0]), 2)
    return pck_figures(found, intervals(found), Targets(nowhere[:, None], nowhere, 0))


def test_points_and_images_are_summed_up_by_hand():
    # cup: 1 of 2 and 6 of 6, so 7 of 8 points, and (1/2 + 1) / 2 by image; fish: 1 of 4, and a pair of no keypoints.
    found = figures([1.0, 6, 1, 0], [2.0, 6, 4, 0], [0, 0, 1, 1])
    assert found.per_category[MODEL]["0.1"] == {"cup": 7 / 8, "fish": 1 / 4}
    assert found.per_image_per_category[MODEL]["0.1"] == {"cup": 3 / 4, "fish": 1 / 4}
    assert found.per_point[MODEL]["0.1"] == 9 / 16 and found.per_image[MODEL]["0.1"] == 1 / 2
    assert found.pooled_per_point[MODEL]["0.1"] == 8 / 12
    assert found.pooled_per_image[MODEL]["0.1"] == pytest.approx((1 / 2 + 1 + 1 / 4) / 3)
    line = next(line for line in found.table().splitlines() if line.startswith(MODEL))
    assert line.split()[1:] == ["56.2%"] * 3 + ["50.0%"] * 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=12))
def test_per_image_is_per_point_where_all_pairs_have_as_many_keypoints(drawn):
    right, category = zip(*drawn, strict=True)
    found = figures([float(n) for n in right], [5.0] * len(right), list(category))
    assert found.per_image[MODEL]["0.1"] == pytest.approx(found.per_point[MODEL]["0.1"])
    assert found.pooled_per_image[MODEL]["0.1"] == pytest.approx(found.pooled_per_point[MODEL]["0.1"])


def test_an_evaluation_has_pck_of_all_methods_and_keeps_it(trained, toy_data):
    evaluation, by_pair = evaluate_pairs(trained / "best.pt", data=toy_data, split="test")
    found = evaluation.pck
    assert list(found.per_point) == list(evaluation.mean) and not any(map(is_pck, evaluation.intervals))
    for method, accuracy in evaluation.mean.items():
        points = [found.per_point[method][f"{alpha:g}"] for alpha in ALPHAS]
        assert accuracy <= points[0] <= points[1] <= points[2] <= 1
        assert by_pair.counts(measure(method, 0.1)).accuracy() == points[1]
    low, high = found.intervals[MODEL]["0.1"][MEAN]
    assert low <= found.per_point[MODEL]["0.1"] <= high and f"[{100 * low:.1f}, {100 * high:.1f}]" in found.table()
    assert "around the target's keypoints" in found.table()  # the toy objects have no boxes
    content = json.loads(json.dumps(dataclasses.asdict(evaluation)))
    assert Evaluation.from_dict(content).pck == found
    assert Evaluation.from_dict({k: v for k, v in content.items() if k != "pck"}).pck is None


def test_a_data_set_of_an_earlier_version_has_no_pck(trained, toy_data, tmp_path):
    before = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test")
    for path in toy_data.rglob("*.arrow"):
        (tmp_path / path.relative_to(toy_data)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(toy_data)).write_bytes(path.read_bytes())
    table = pa.ipc.open_file((tmp_path / OBJECTS_FILE).read_bytes()).read_all().drop_columns(["sizes"])
    with pa.ipc.new_file(str(tmp_path / OBJECTS_FILE), table.schema) as file:
        file.write_table(table)
    evaluation, by_pair = evaluate_pairs(trained / "best.pt", data=tmp_path, split="test")
    assert evaluation.pck is None and evaluation.mean == before.mean and evaluation.intervals == before.intervals
    assert list(by_pair.correct) == list(before.mean)

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import zscore

from nmt.batch import PairBatch
from nmt.config import DecodeConfig, load_config
from nmt.data.prepare.features import add_features
from nmt.data.store.arrow import METADATA_KEY
from nmt.data.store.objects import OBJECTS_FILE
from nmt.errors import UserError
from nmt.inference.evaluate import Evaluation, baselines, evaluate_checkpoint, position_score
from tests.nmt_tests.model.made_pairs import made_batch


def test_evaluation_stands_beside_the_baselines(trained, toy_data):
    result = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test")
    assert result.mean["NMT"] > result.mean["positions"]
    assert 0.1 < result.mean["chance"] < 0.2  # 6 to 10 keypoints a pair
    assert "mean" in result.table() and "chair" in result.table()


def test_a_data_set_without_a_test_split_is_told_so(trained, make_store, toy_objects):
    store = make_store([o for o in toy_objects() if o.split != "test"])
    add_features(store.directory, load_config(trained / "config.json").model)
    with pytest.raises(UserError, match="has no test split; evaluate on val, or prepare it again with photographs in"):
        evaluate_checkpoint(trained / "best.pt", data=store.directory, split="test")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 5), st.floats(-50, 50), st.integers(0, 3))
def test_positions_are_compared_whatever_the_place_and_scale_of_an_image(seed, scale, offset, extra):
    batch = made_batch([5, 3], 5 + extra, seed)
    moved = dataclasses.replace(batch.target, points_BN2=scale * batch.target.points_BN2 + offset)
    score = position_score(batch)
    torch.testing.assert_close(score, position_score(dataclasses.replace(batch, target=moved)), atol=1e-2, rtol=1e-3)
    for b, num in enumerate([5, 3]):
        one, other = (zscore(side.points_BN2[b, :num].numpy(), axis=0) for side in (batch.source, batch.target))
        expected = -cdist(one, other, "sqeuclidean")
        np.testing.assert_allclose(score[b, :num, :num], expected, atol=1e-3, rtol=1e-3)


def test_baselines_are_chance_positions_and_raw_features():
    batch = made_batch([6, 4], 6)
    # the target is the source seen anew: positions solve it, and so do features that are one-hot in the name
    target = dataclasses.replace(batch.source, points_BN2=batch.source.points_BN2 * 0.5)
    match = torch.arange(6).expand(2, 6).masked_fill(~batch.source.mask_BN, -1)
    same = PairBatch(batch.source, target, match, torch.tensor([0, 1]))
    codes = torch.eye(6).expand(2, 6, 6)
    found = baselines(lambda b: (codes, codes), [same], DecodeConfig(), num_categories=3, device=torch.device("cpu"))
    assert list(found) == ["chance", "positions", "nearest features"]
    assert found["positions"].accuracy() == found["nearest features"].accuracy() == 1
    assert found["chance"].correct_A.tolist() == [1, 1, 0] and found["chance"].total_A.tolist() == [6, 4, 0]


def test_categories_other_than_the_trained_ones_are_refused(trained, make_store, toy_objects):
    renamed = make_store(toy_objects())
    info = dataclasses.replace(renamed.info, keypoint_names={"cup": [], "fish": []})
    table = pa.ipc.open_file((renamed.directory / OBJECTS_FILE).read_bytes()).read_all()
    schema = table.schema.with_metadata({METADATA_KEY: info.to_json()})
    with pa.ipc.new_file(str(renamed.directory / OBJECTS_FILE), schema) as file:
        file.write_table(table)
    with pytest.raises(UserError, match=r"its categories are not those .*best.pt was trained on \(chair, plane\)"):
        evaluate_checkpoint(trained / "best.pt", data=renamed.directory, split="val")


def test_the_table_has_a_row_per_category_and_the_mean_last():
    found = Evaluation(
        split="val", pairs=3, decode=DecodeConfig(), mean={"chance": 0.1, "NMT": 0.75},
        per_category={"chance": {"chair": 0.1}, "NMT": {"chair": 0.5, "plane": 1.0}},
    )  # fmt: skip
    rows = [line.split() for line in found.table().splitlines()]
    assert rows == [
        ["category", "chance", "NMT"],
        ["chair", "10.0%", "50.0%"],
        ["plane", "nan%", "100.0%"],
        ["mean", "10.0%", "75.0%"],
    ]

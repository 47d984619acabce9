from __future__ import annotations

import dataclasses
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import zscore

from nmt import checkpoint
from nmt.batch import PairBatch
from nmt.bootstrap import MEAN
from nmt.config import DecodeConfig, load_config, to_dict
from nmt.data.prepare.features import add_features
from nmt.data.store.arrow import METADATA_KEY
from nmt.data.store.objects import OBJECTS_FILE
from nmt.data.stream.pairs import eval_batches, eval_pairs
from nmt.decoding import model_score, similarities, sweep
from nmt.device import autocast
from nmt.errors import UserError
from nmt.inference.evaluate import MODEL, Evaluation, baselines, evaluate_checkpoint, position_score
from nmt.model.backbone import Backbone, build_backbone
from nmt.model.build import build_matcher
from nmt.model.matcher import Matcher, cosine
from tests.nmt_tests.model.made_pairs import made_batch
from tests.nmt_tests.toy_training import small

CPU = torch.device("cpu")


def test_a_model_trained_on_fewer_keypoints_than_a_data_set_has_is_evaluated_on_it(trained, toy_data, tmp_path):
    content = checkpoint.load(trained / "best.pt")
    content["config"]["data"]["pad_keypoints"] = 4  # the pairs have 6 to 10
    checkpoint.save(tmp_path / "best.pt", content)
    ours, plain = (evaluate_checkpoint(d / "best.pt", data=toy_data, split="test") for d in (tmp_path, trained))
    assert ours.mean == plain.mean


def test_evaluation_stands_beside_the_baselines(trained, toy_data):
    result = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test")
    assert result.mean["NMT"] > result.mean["positions"]
    assert 0.1 < result.mean["chance"] < 0.2  # 6 to 10 keypoints a pair
    assert "mean" in result.table() and "chair" in result.table()
    low, high = result.intervals["positions"][MEAN]
    assert low < result.mean["positions"] < high and set(result.intervals["NMT"]) == {"chair", "plane", MEAN}
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in result.table()
    assert f"over the {result.photographs} photographs" in result.table()
    content = json.loads(json.dumps(dataclasses.asdict(result)))
    assert Evaluation.from_dict(content).mean == result.mean
    older = {k: v for k, v in content.items() if k not in ("intervals", "photographs")}
    assert "interval" not in Evaluation.from_dict(older).table()


def test_on_images_each_object_is_read_once_and_the_accuracy_is_that_of_pairs_by_themselves(
    toy_data, toy_store, tmp_path, monkeypatch
):
    config = small(data__mode="images", train__precision="fp32", data__eval_pairs=15)
    matcher = build_matcher(config.model, image_size=64, features=None, seed=3).eval()
    content = {"model": matcher.state_dict(), "config": to_dict(config), "categories": toy_store.info.categories}
    checkpoint.save(tmp_path / "best.pt", content | {"epoch": 1, "metrics": {}})
    read: Counter[bytes] = Counter()
    forward = Backbone.forward

    def counting(backbone, images_B3HW, draw_B=None):
        read.update(image.numpy().tobytes() for image in images_B3HW)
        return forward(backbone, images_B3HW, draw_B)

    monkeypatch.setattr(Backbone, "forward", counting)
    found = evaluate_checkpoint(tmp_path / "best.pt", data=toy_data, split="test")
    pairs = eval_pairs(toy_store, config.data, split="test")
    objects = {row for pair in pairs for row in (pair.row0, pair.row1)}
    assert len(objects) < len(pairs) == found.pairs
    assert sorted(read.values()) == [2] * len(objects)  # by the trained backbone and by the untrained one
    plain = Matcher(matcher.head, build_backbone(config.model, 64))
    direct = {MODEL: model_score(matcher, autocast=autocast("fp32", CPU)), "nearest features": raw_cosines(plain)}
    for name, score in direct.items():
        batches = eval_batches(toy_store, config.data, split="test", batch_size=4)
        counts = sweep(similarities(score, batches, device=CPU), [config.decode], num_categories=2)[config.decode]
        assert found.mean[name] == counts.accuracy() > 0


def raw_cosines(matcher):
    """Scores of backbone features at the keypoints."""
    return lambda batch: cosine(
        *(F.normalize(matcher.features(side)[0], dim=-1) for side in (batch.source, batch.target))
    )


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
    codes, labels = torch.eye(6).expand(2, 6, 6), torch.tensor([0, 1])
    same = PairBatch(*(dataclasses.replace(side, nodes_BNC=codes) for side in (batch.source, target)), match, labels)
    found = baselines([same], DecodeConfig(), device=torch.device("cpu"))
    assert list(found) == ["chance", "positions", "nearest features"]
    assert found["positions"].tolist() == found["nearest features"].tolist() == [6, 4]  # all keypoints of both pairs
    assert found["chance"].tolist() == [1, 1]


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

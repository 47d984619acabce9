from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pairs import eval_pairs, plain_batch
from nmt.inference.load import load_model
from nmt.inference.pictures import RIGHT, draw_sheet
from nmt.inference.sample import draw_split, match_batch, sample_pairs
from nmt.sinkhorn import sinkhorn
from tests.nmt_tests.toy_training import small


def test_pictures_show_right_matches_green(trained, toy_data):
    matcher, config, categories = load_model(trained / "best.pt")
    assert categories == ["chair", "plane"]
    pairs = sample_pairs(matcher, ObjectStore.open(toy_data), _table(toy_data), config, split="val", count=4)
    assert {pair.label for pair in pairs} == {"chair", "plane"}
    sheet = draw_sheet(pairs)
    assert sheet.dtype == np.uint8 and (sheet == RIGHT).all(-1).any()


def _table(data: Path):
    from nmt.data.store.features import FeatureTable

    return FeatureTable.open(data, small().model, 64)


def test_the_same_pairs_are_shown_at_every_call_in_turn_of_categories(trained, toy_data):
    matcher, config, _ = load_model(trained / "best.pt")
    store = ObjectStore.open(toy_data)
    matcher.train()
    first, again = (sample_pairs(matcher, store, _table(toy_data), config, split="test", count=5) for _ in range(2))
    assert matcher.training  # as it was
    assert [pair.label for pair in first] == ["chair", "plane", "chair", "plane", "chair"]
    for one, other in zip(first, again, strict=True):
        for name in ("image0_HW3", "points0_N2", "points1_M2", "predicted_N", "match_N"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert len(one.predicted_N) == len(one.points0_N2) == len(one.match_N)


def test_a_split_is_drawn_from_the_checkpoint_alone(trained, toy_data):
    matcher, config, _ = load_model(trained / "best.pt")
    store = ObjectStore.open(toy_data)
    expected = draw_sheet(sample_pairs(matcher, store, _table(toy_data), config, split="val", count=3))
    np.testing.assert_array_equal(draw_split(trained / "best.pt", data=toy_data, split="val", count=3), expected)


def test_matches_are_the_decoded_similarities(trained, toy_data):
    matcher, config, _ = load_model(trained / "best.pt")
    store, table = ObjectStore.open(toy_data), _table(toy_data)
    batch = plain_batch(store, eval_pairs(store, config.data, split="val")[:6], features=table)
    for assignment in ("argmax", "hungarian"):
        setting = dataclasses.replace(config.decode, assignment=assignment)
        found_BN = match_batch(matcher, batch, setting)
        with torch.inference_mode():
            output = matcher(batch)
        log_plan = sinkhorn(output.similarity_BNM, output.mask0_BN, output.mask1_BM, epsilon=setting.epsilon,
                            iterations=setting.sinkhorn_iterations)  # fmt: skip
        for b, num in enumerate(batch.source.num_B.tolist()):
            plan = log_plan[b, :num, :num].numpy()
            expected = plan.argmax(1) if assignment == "argmax" else linear_sum_assignment(plan, maximize=True)[1]
            assert found_BN[b, :num].tolist() == expected.tolist() and (found_BN[b, num:] == -1).all()

"""Calibration of a trained matcher on val, in both modes."""

from __future__ import annotations

import pytest
import torch

from nmt.calibration import f1_on_val, fit_on_val, matches_of, protocol_similarities
from nmt.confidence import Rows, figures
from nmt.config import with_overrides
from nmt.data.store.features import open_features
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.outliers import FITTED
from nmt.data.stream.pairs import eval_batches
from nmt.decoding import model_score, similarities
from nmt.device import autocast
from nmt.inference.load import load_trained
from nmt.model.build import build_matcher
from tests.nmt_tests.toy_training import small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded(trained, toy_data):
    found, store = load_trained(trained / "best.pt"), ObjectStore.open(toy_data)
    return found, store, open_features(toy_data, found.config)


def test_what_a_training_keeps_is_what_a_fit_on_val_finds(loaded):
    found, store, features = loaded
    again = fit_on_val(found.matcher, store, found.config, features=features, device=CPU)
    assert again == found.calibration
    assert set(again.pairs) == set(FITTED) == set(again.figures) and min(again.pairs.values()) == 24
    assert again.figures["both30"]["auc"] > 0.6 and 0 < again.threshold < 1


def test_fewer_sources_of_unrelated_objects_are_matched(loaded):
    found, store, features = loaded
    stored = protocol_similarities(
        found.matcher, store, found.config, split="test", features=features, device=CPU, most=24
    )
    shares = {
        name: figures(matches_of(pairs, found.config.decode), found.calibration)["kept"]
        for name, pairs in stored.items()
    }
    assert shares["cross"] < shares["inter"] - 0.2


def test_the_decoding_chooses_the_targets(loaded):
    found, store, features = loaded
    stored = protocol_similarities(
        found.matcher, store, found.config, split="val", features=features, device=CPU, most=8
    )["drop4"]
    one_to_one = with_overrides(found.config, {"decode.assignment": "hungarian"}, source="test").decode
    sources, targets = stored.mask0_PN.sum(1), stored.mask1_PM.sum(1)
    assert len(matches_of(stored, found.config.decode).right_R) == int(sources.sum())
    assert len(matches_of(stored, one_to_one).right_R) == int(torch.minimum(sources, targets).sum())
    assert matches_of(stored, one_to_one).matchable == int((stored.match_PN >= 0).sum())


def test_a_backbone_that_reads_each_object_once_gives_the_same_similarities(toy_store):
    config = small(data__mode="images", model__decoder_layers=1, train__precision="fp32", data__eval_pairs=3)
    matcher = build_matcher(config.model, image_size=64, features=None, seed=0).eval()
    inter = protocol_similarities(matcher, toy_store, config, split="val", features=None, device=CPU, most=6)["inter"]
    batches = eval_batches(toy_store, config.data, split="val", batch_size=6)
    direct = similarities(model_score(matcher, autocast=autocast("fp32", CPU)), batches, device=CPU)
    assert sorted(inter.category_P.tolist()) == direct.category_P.tolist()
    order = inter.category_P.argsort(stable=True)
    torch.testing.assert_close(inter.similarity_PNM[order], direct.similarity_PNM, atol=1e-5, rtol=0)


def test_f1_on_val_is_read_at_thresholds_that_other_pairs_chose(loaded):
    found, store, features = loaded
    place = {"features": features, "device": CPU}
    value = f1_on_val(found.matcher, store, found.config, **place)
    assert value == f1_on_val(found.matcher, store, found.config, **place)
    stored = protocol_similarities(found.matcher, store, found.config, split="val", most=100, protocols=FITTED, **place)
    rows = {name: matches_of(pairs, found.config.decode) for name, pairs in stored.items()}
    own = figures(Rows.joined(list(rows.values())), found.calibration)["f1"]  # that these pairs chose themselves
    all_matched = figures(Rows.joined(list(rows.values())), found.calibration.with_threshold("off", source="test"))
    assert abs(value - own) < 0.1 and value > all_matched["f1"]
    # No pair helps to choose the threshold that it is measured at: worse pairs of one half leave the other's alone.
    first, second = zip(*(pairs.halves() for pairs in stored.values()), strict=True)
    assert [len(half.category_P) for half in (*first, *second)] == [12] * 10
    assert all(half.category_P.unique().tolist() == [0, 1] for half in (*first, *second))

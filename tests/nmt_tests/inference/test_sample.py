from __future__ import annotations

from pathlib import Path

import numpy as np

from nmt.data.store.objects import ObjectStore
from nmt.inference.load import load_matcher
from nmt.inference.pictures import RIGHT, draw_sheet
from nmt.inference.sample import sample_pairs
from tests.nmt_tests.toy_training import small


def test_pictures_show_right_matches_green(trained, toy_data):
    matcher, config, categories = load_matcher(trained / "best.pt")
    assert categories == ["chair", "plane"]
    pairs = sample_pairs(matcher, ObjectStore.open(toy_data), _table(toy_data), config, split="val", count=4)
    assert {pair.label for pair in pairs} == {"chair", "plane"}
    sheet = draw_sheet(pairs)
    assert sheet.dtype == np.uint8 and (sheet == RIGHT).all(-1).any()


def _table(data: Path):
    from nmt.data.store.features import FeatureTable

    return FeatureTable.open(data, small().model, 64)

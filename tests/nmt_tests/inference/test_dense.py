"""Dense matching: on images whose keypoints are coloured cells, it finds them without being told where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nmt import checkpoint
from nmt.config import to_dict
from nmt.data.store.writer import RawObject
from nmt.data.stream.pairs import eval_pairs
from nmt.device import autocast
from nmt.errors import UserError
from nmt.inference.dense import FEATURES_DENSE, MODEL_DENSE, DenseMatcher, dense_counts, peaks
from nmt.inference.evaluate import MODEL, evaluate_pairs
from nmt.inference.pck import ALPHAS, Targets, measure
from nmt.model.area import Area
from nmt.model.backbone import Backbone, BackboneMaps
from nmt.model.build import build_matcher
from nmt.model.matcher import Head, Matcher
from tests.nmt_tests.toy_training import small

SIZE, CELL = 64, 4
CPU = torch.device("cpu")
NAMES = ("c0", "c1", "c2")


def coloured(name: str, cells: list[tuple[int, int]]) -> RawObject:
    """A grey image; keypoint k is a cell (column, row) of the colour channel k."""
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for channel, (x, y) in enumerate(cells):
        image[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] = np.eye(3, dtype=np.uint8)[channel] * 250
    points = {key: ((x + 0.5) * CELL, (y + 0.5) * CELL) for key, (x, y) in zip(NAMES, cells, strict=True)}
    return RawObject(name, "chair", "test", name, image, points, box=(50.0, 50.0))


def colours() -> Backbone:
    """A backbone whose maps are the colours of 4 x 4 pixels, and of 8 x 8 pixels."""

    def read(net: nn.Module, images_B3HW: torch.Tensor) -> BackboneMaps:
        first, second = (F.avg_pool2d(net(images_B3HW), side) for side in (CELL, 2 * CELL))
        return BackboneMaps(first, second, images_B3HW.mean((2, 3)))

    backbone = Backbone(
        nn.Identity(), read, channels=(3, 3), global_channels=3, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    backbone.areas = (Area(0, SIZE), Area(0, SIZE))
    return backbone


def test_the_features_lead_to_the_keypoints_and_the_head_chooses_among_what_they_found(make_store):
    store = make_store([coloured("a", [(2, 2), (13, 4), (6, 12)]), coloured("b", [(9, 3), (3, 13), (14, 14)])])
    config = small(data__mode="images", train__precision="fp32")
    torch.manual_seed(0)
    head = Head(config.model, channels=6, global_channels=3).eval()
    matcher = DenseMatcher(Matcher(head, None), colours(), config, device=CPU, autocast=autocast("fp32", CPU))
    pairs = eval_pairs(store, config.data, split="test")
    for pair in pairs:
        found_N2, refined_N2 = matcher.match(store, pair)
        true_N2 = store.points(pair.row1)[pair.positions1][pair.match_N]
        np.testing.assert_allclose(found_N2, true_N2, atol=CELL / 16)
        assert {*map(tuple, refined_N2.tolist())} <= {*map(tuple, found_N2.tolist())}
    match_PN = torch.from_numpy(np.stack([pair.match_N for pair in pairs]))
    counted = dense_counts(matcher, store, pairs, match_PN, Targets.of(store, pairs))
    assert counted[measure(FEATURES_DENSE, 0.05)].tolist() == [3.0] * len(pairs)
    assert list(counted) == [measure(name, alpha) for name in (FEATURES_DENSE, MODEL_DENSE) for alpha in ALPHAS]


def test_a_peak_is_the_largest_cell_drawn_to_its_better_neighbour():
    centres = torch.arange(8) * 10.0 + 5
    cosine = torch.zeros(3, 8, 8)
    cosine[0, 2, 6] = 1  # row 2, column 6: x = 65, y = 25
    cosine[1, 0, 0] = cosine[1, 0, 1] = 1  # the first of equals, and half a cell on
    cosine[2, 7, 0], cosine[2, 0, 7] = 1, 0.99  # far away: not in its window
    found = peaks(cosine, centres)
    torch.testing.assert_close(found, torch.tensor([[65.0, 25.0], [10.0, 5.0], [5.0, 75.0]]), atol=1e-3, rtol=0)


def test_an_evaluation_on_images_has_both_rows_and_they_change_no_other(toy_data, toy_store, tmp_path):
    config = small(data__mode="images", train__precision="fp32", data__eval_pairs=4)
    matcher = build_matcher(config.model, image_size=64, features=None, seed=3).eval()
    content = {"model": matcher.state_dict(), "config": to_dict(config), "categories": toy_store.info.categories}
    checkpoint.save(tmp_path / "best.pt", content | {"epoch": 1, "metrics": {}})
    plain, _ = evaluate_pairs(tmp_path / "best.pt", data=toy_data, split="test", alone=True)
    found, by_pair = evaluate_pairs(tmp_path / "best.pt", data=toy_data, split="test", alone=True, dense=True)
    assert list(found.pck.per_point) == [MODEL, FEATURES_DENSE, MODEL_DENSE] and found.mean == plain.mean
    assert found.pck.per_point[MODEL] == plain.pck.per_point[MODEL]
    dense = [found.pck.per_point[FEATURES_DENSE][f"{alpha:g}"] for alpha in ALPHAS]
    assert dense == sorted(dense) and dense[0] >= 0 and dense[-1] < 1  # of random images
    assert by_pair.counts(measure(MODEL_DENSE, 0.1)).accuracy() == found.pck.per_point[MODEL_DENSE]["0.1"]
    rows = [line.split("  ")[0] for line in found.pck.table().splitlines()]
    assert rows.index(MODEL_DENSE) == rows.index(FEATURES_DENSE) + 1 and rows.count("95 % interval") == 2


def test_without_sizes_dense_is_refused(trained, toy_data, monkeypatch):
    monkeypatch.setattr(Targets, "of", classmethod(lambda *_: None))
    with pytest.raises(UserError, match="--dense needs the sizes of objects; prepare it again, which adds them"):
        evaluate_pairs(trained / "best.pt", data=toy_data, split="test", dense=True)


def test_a_keypoint_without_a_predicted_position_is_never_right():
    nowhere = Targets(torch.zeros(1, 2, 2).double(), torch.ones(1, 2).double(), 1)
    points = torch.tensor([[[0.0, 0.0], [torch.inf, torch.inf]]]).double()
    assert nowhere.right_at(points, torch.tensor([[0, 1]]), 9.0).tolist() == [1]

"""Pairs to begin with, of the toy data set."""

from __future__ import annotations

import numpy as np

from nmt.config import DataConfig
from nmt.inference.serve.examples import COUNT, example_pairs
from nmt.inference.serve.pictures import Pictures

CONFIG = DataConfig(name="toy", mode="features", image_size=64)


def test_examples_are_validation_pairs_one_of_each_category_first(toy_store):
    held = Pictures(64)
    pairs = example_pairs(toy_store, CONFIG, held)
    categories = [pair["sides"][0]["category"] for pair in pairs]
    present = [c for c in toy_store.info.categories if c in categories]
    assert set(categories[: len(present)]) == set(present) and len(pairs) <= COUNT
    assert len({pair["label"] for pair in pairs}) == len(pairs)
    val = {toy_store.id(row).rpartition("/")[2] for rows in toy_store.rows("val") for row in rows.tolist()}
    for side in (side for pair in pairs for side in pair["sides"]):
        picture = held.get(side["id"])
        assert side["name"] in val and (side["width"], side["height"]) == (picture.width, picture.height)
        points_N2 = np.array([(p["x"], p["y"]) for p in side["points"]])
        assert len(points_N2) >= 2 and (points_N2 <= (picture.width, picture.height)).all()
        assert {p["name"] for p in side["points"]} <= set(toy_store.info.keypoint_names[side["category"]])


def test_the_server_lists_them_and_shows_their_pictures(toy_store, small_checkpoint, serving):
    from nmt.api import load_matcher
    from nmt.inference.serve.app import Workbench

    site = serving(Workbench(load_matcher(small_checkpoint, device="cpu"), name="toy", examples=toy_store))
    pair = site.ask("GET", "/api/examples")[1]["pairs"][0]
    sides = [{"picture": s["id"], "points": [[p["x"], p["y"]] for p in s["points"]]} for s in pair["sides"]]
    assert site.ask("GET", f"/api/pictures/{sides[0]['picture']}")[0] == 200
    assert site.post("/api/match", {"source": sides[0], "target": sides[1]})[0] == 200

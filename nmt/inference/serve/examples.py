"""Pairs of a data set to begin with: a first visitor sees a match at once."""

from __future__ import annotations

from typing import Any

from nmt.config import DataConfig
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import eval_pairs
from nmt.inference.serve.pictures import Pictures

COUNT = 24


def example_pairs(store: ObjectStore, config: DataConfig, pictures: Pictures) -> list[dict[str, Any]]:
    """Choose validation pairs, one of each category first, and hold their pictures.

    Returns:
        For each pair its label and its two sides: id, size, name, category and named points, in pixels.
    """
    by_category: dict[int, list[Pair]] = {}
    for pair in eval_pairs(store, config, split="val"):
        by_category.setdefault(pair.category, []).append(pair)
    most = max(map(len, by_category.values()), default=0)
    turns = [(turn, pairs[turn]) for turn in range(most) for pairs in by_category.values() if turn < len(pairs)]
    return [_described(store, pair, pictures, turn + 1) for turn, pair in turns[:COUNT]]


def _described(store: ObjectStore, pair: Pair, pictures: Pictures, number: int) -> dict[str, Any]:
    category = store.info.categories[pair.category]
    names = store.info.keypoint_names[category]
    sides = []
    for row in (pair.row0, pair.row1):
        picture = pictures.add_array(store.image(row))
        points = zip(store.keypoints(row).tolist(), store.points(row).tolist(), strict=True)
        named = [{"name": names[k], "x": round(x, 2), "y": round(y, 2)} for k, (x, y) in points]
        name = store.id(row).rpartition("/")[2]
        sides.append({**picture.describe(), "name": name, "category": category, "points": named})
    return {"label": f"{category} {number}", "sides": sides}

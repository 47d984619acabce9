"""A stream of training pairs of the toy data set, shared by the tests of this folder."""

from __future__ import annotations

import pytest

from nmt.config import DataConfig
from nmt.data.stream.pairs import PairStream

FEATURES = DataConfig(name="toy", mode="features", image_size=64)


@pytest.fixture(scope="session")
def stream(toy_store, toy_features) -> PairStream:
    return PairStream(toy_store, FEATURES, split="train", seed=3, features=toy_features)

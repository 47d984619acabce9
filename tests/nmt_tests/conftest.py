"""Fixtures over the small data set of toy_data.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from toy_data import toy_objects, write_toy

from nmt.data.features import _SCHEMA as FEATURES_SCHEMA
from nmt.data.features import FeatureTable
from nmt.data.store import METADATA_KEY, SCHEMA_VERSION, ObjectStore


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """Raw coding, two views a photograph."""
    return write_toy(tmp_path_factory.mktemp("toy"), toy_objects(views=2))


@pytest.fixture(scope="session")
def toy_features(toy_store: ObjectStore) -> FeatureTable:
    """Random features, 6 + 4 channels; node k of a row holds its keypoint's id in channel 0."""
    rng = np.random.default_rng(1)
    rows = []
    for row in range(len(toy_store)):
        nodes = rng.random((len(toy_store.keypoints(row)), 10)).astype(np.float16)
        nodes[:, 0] = toy_store.keypoints(row)
        rows.append({"nodes": nodes.ravel(), "global": np.full(4, row, np.float32)})
    info = {"version": SCHEMA_VERSION, "channels": 10, "global_channels": 4, "data_set": toy_store.info.identity}
    schema = FEATURES_SCHEMA.with_metadata({METADATA_KEY: json.dumps(info).encode()})
    path = toy_store.directory / "toy-features.arrow"
    with pa.ipc.new_file(str(path), schema) as file:
        for first in range(0, len(rows), 50):  # several record batches, unlike the objects'
            file.write_batch(pa.RecordBatch.from_pylist(rows[first : first + 50], schema=schema))
    return FeatureTable(path, remedy="")


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., ObjectStore]:
    """make_store(objects, image_coding=...) writes and opens a data set of its own."""
    return lambda objects, **options: write_toy(tmp_path / "toy", objects, **options)

"""A small data set made on the spot, shared by the tests of the data path."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nmt.config import ModelConfig
from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION
from nmt.data.store.features import _SCHEMA as FEATURES_SCHEMA
from nmt.data.store.features import SAMPLING, FeatureTable, features_path
from nmt.data.store.objects import OBJECTS_FILE, SPLITS, ObjectStore, StoreInfo
from nmt.data.store.writer import ObjectWriter, RawObject

# What processes of the tests import, loaded once in the server that they are forked from; the last is for data parallel
# models.
multiprocessing.set_forkserver_preload(["pytest", "nmt.training.loop", "nmt.data.prepare.objects", "torch._dynamo"])

TOY_NAMES = {"chair": [f"c{k}" for k in range(10)], "plane": [f"p{k}" for k in range(8)]}
TOY_SIZE = 64


def _objects(*, views: int = 1) -> list[RawObject]:
    """30 photographs a category, 20 train, 5 val, 5 test; 6 to all keypoints each."""
    rng = np.random.default_rng(0)
    objects = []
    for category, names in TOY_NAMES.items():
        for k in range(30):
            for view in range(views):
                num = int(rng.integers(6, len(names) + 1))
                points = {names[i]: tuple(rng.random(2) * TOY_SIZE) for i in rng.permutation(len(names))[:num]}
                image = rng.integers(0, 256, (TOY_SIZE, TOY_SIZE, 3), dtype=np.uint8)
                photo = f"{category}/{k}"
                split = SPLITS[0 if k < 20 else 1 if k < 25 else 2]
                objects.append(RawObject(f"{photo}@{view}", category, split, photo, image, points))
    return objects


def _write(directory: Path, objects: list[RawObject], *, image_coding: str = "raw") -> ObjectStore:
    directory.mkdir(parents=True, exist_ok=True)
    writer = ObjectWriter(directory / OBJECTS_FILE, TOY_NAMES, image_size=TOY_SIZE, image_coding=image_coding)
    for raw in objects:
        writer.add(raw)
    info = StoreInfo(
        name="toy",
        keypoint_names=TOY_NAMES,
        image_size=TOY_SIZE,
        image_coding=image_coding,
        options={},
        seed=0,
        fingerprint="0",
        counts=writer.counts,
        left_out={},
    )
    writer.finish(info)
    writer.close()
    return ObjectStore.open(directory)


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """Raw coding, two views a photograph."""
    return _write(tmp_path_factory.mktemp("toy"), _objects(views=2))


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


@pytest.fixture(scope="session")
def toy_data(toy_store: ObjectStore) -> Path:
    """The toy data set with a table to train on: a random code for each keypoint name, and noise; 12 + 5 channels."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((2, 10, 12))
    rows = []
    for row in range(len(toy_store)):
        code = codes[toy_store.category[row], toy_store.keypoints(row)]
        nodes = code + 0.5 * rng.standard_normal(code.shape)
        rows.append({"nodes": nodes.astype(np.float16).ravel(), "global": rng.standard_normal(5).astype(np.float32)})
    model = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")
    path = features_path(toy_store.directory, model, TOY_SIZE)
    path.parent.mkdir(exist_ok=True)
    info = {"version": SCHEMA_VERSION, "channels": 12, "global_channels": 5, "data_set": toy_store.info.identity}
    info["sampling"] = SAMPLING
    schema = FEATURES_SCHEMA.with_metadata({METADATA_KEY: json.dumps(info).encode()})
    with pa.ipc.new_file(str(path), schema) as file:
        file.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    return toy_store.directory


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., ObjectStore]:
    """make_store(objects, image_coding=...) writes and opens a data set of its own."""
    return lambda objects, **options: _write(tmp_path / "toy", objects, **options)


@pytest.fixture
def toy_objects() -> Callable[..., list[RawObject]]:
    """toy_objects(views=...): the objects themselves."""
    return _objects


@pytest.fixture(scope="session")
def trained(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of the small configuration."""
    from nmt.training.loop import train
    from tests.nmt_tests.toy_training import small

    directory = tmp_path_factory.mktemp("trained")
    train(small(), data=toy_data, directory=directory)
    return directory

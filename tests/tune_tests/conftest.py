"""A tiny data set whose stored features tell its keypoints apart, a search over it, and a Ray to run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nmt.config import ModelConfig
from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION
from nmt.data.store.features import SAMPLING, features_path
from nmt.data.store.objects import ObjectStore, StoreInfo
from nmt.data.store.writer import ObjectWriter, RawObject

SIZE, CHANNELS, GLOBAL = 32, 16, 8
NAMES = {category: [f"{category}{k}" for k in range(6)] for category in ("cup", "fish")}
MODEL = ModelConfig(backbone="tiny", weights="random")

SPACE = """
description = "a tiny search"

[base]
data = { name = "tiny", mode = "features", image_size = 32, pairs_per_step = 4, eval_pairs = 40 }
model = { backbone = "tiny", weights = "random", d_model = 16, heads = 2, decoder_layers = 1, mlp_multiplier = 2.0 }
optim = { lr = 1e-4, milestones = [] }
train = { epochs = 4, steps_per_epoch = 4 }

[space]
"optim.lr" = { low = 1e-5, high = 1e-1, log = true }
"loss.layer_weighting" = { values = ["flat", "linear"] }
"decode.epsilon" = { values = [0.01, 0.035, 0.2] }

[search]
trials = 5
"""


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    """One Ray for the searches and jobs of a module; each would start its own."""
    from tune.driver.ray_session import ray_session

    with ray_session():
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/tiny: two categories of six keypoints, with features that are noisy one-hot codes of them."""
    return _make_data(tmp_path_factory.mktemp("data") / "tiny", fingerprint="tiny")


@pytest.fixture(scope="session")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another data set of the same name, and of another identity."""
    return _make_data(tmp_path_factory.mktemp("other") / "tiny", fingerprint="other")


def _make_data(directory: Path, *, fingerprint: str) -> Path:
    directory.mkdir()
    rng = np.random.default_rng(0)
    writer = ObjectWriter(directory / "objects.arrow", NAMES, image_size=SIZE, image_coding="raw")
    for number in range(48):
        category = ("cup", "fish")[number % 2]
        split = ("train", "val", "test")[number // 2 % 3]
        points = {name: tuple(rng.uniform(2, 30, 2).tolist()) for name in NAMES[category]}
        image = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        writer.add(RawObject(f"{category}/{number}", category, split, str(number), image, points))
    info = StoreInfo(
        name="tiny", keypoint_names=NAMES, image_size=SIZE, image_coding="raw", options={}, seed=0,
        fingerprint=fingerprint, counts=writer.counts, left_out={},
    )  # fmt: skip
    writer.finish(info)
    writer.close()
    _write_features(directory, rng)
    return directory


def _write_features(directory: Path, rng: np.random.Generator) -> None:
    store, path = ObjectStore.open(directory), features_path(directory, MODEL, SIZE)
    path.parent.mkdir()
    info = {"version": SCHEMA_VERSION, "channels": CHANNELS, "global_channels": GLOBAL, "data_set": store.info.identity}
    info["sampling"] = SAMPLING
    schema = pa.schema([("nodes", pa.list_(pa.float16())), ("global", pa.list_(pa.float32()))])
    schema = schema.with_metadata({METADATA_KEY: json.dumps(info).encode()})
    rows = []
    for row in range(len(store)):
        nodes_NC = np.eye(CHANNELS)[store.keypoints(row)] + rng.normal(0, 0.25, (6, CHANNELS))
        rows.append(
            {"nodes": nodes_NC.astype(np.float16).ravel(), "global": rng.normal(size=GLOBAL).astype(np.float32)}
        )
    with pa.ipc.new_file(str(path), schema) as file:
        file.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


@pytest.fixture(scope="session")
def space_text() -> str:
    """The tiny search."""
    return SPACE


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    """tiny.toml, the tiny search."""
    path = tmp_path / "tiny.toml"
    path.write_text(SPACE)
    return path

"""Tables of frozen backbone features at the keypoints: `data/NAME/features/BACKBONE-SIZE-WEIGHTS.arrow`.

Rows in the order of objects.arrow (nmt/data/store.py); columns `nodes` list<float16> (N * C: both channel-normalised
maps read at the N keypoints) and `global` list<float32> (G). The metadata, JSON under the key `nmt`, names the
backbone, its weights and the data set the features were made from.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from nmt.config import ModelConfig
from nmt.data.manifest import write_manifest
from nmt.data.store import (
    LOCK_FILE,
    METADATA_KEY,
    SCHEMA_VERSION,
    ArrowTable,
    ObjectStore,
    prepare_command,
)
from nmt.errors import UserError
from nmt.files import atomic_output, file_lock, output_folder

_SCHEMA = pa.schema(
    [
        pa.field("nodes", pa.list_(pa.float16()), nullable=False),
        pa.field("global", pa.list_(pa.float32()), nullable=False),
    ]
)
_BATCH_IMAGES = 16
_BATCH_ROWS = 512
_MAX_BATCHES_AT_ONCE = 8


def features_path(directory: Path, model: ModelConfig, image_size: int) -> Path:
    """Where the table for this backbone, with these weights, at this size lies."""
    from nmt.model.weights import weights_fingerprint

    name = model.backbone.replace("/", "_").replace(":", "_")
    return directory / "features" / f"{name}-{image_size}-{weights_fingerprint(model)}.arrow"


class FeatureTable:
    """Backbone features of every object of a data set, open for reading; rows as in the ObjectStore."""

    def __init__(self, path: Path, *, remedy: str) -> None:
        self.path, self._remedy = path, remedy
        table = ArrowTable(path, remedy=remedy)
        self.info = table.metadata
        self.channels: int = table.metadata["channels"]
        """C, both maps together"""
        self.global_channels: int = table.metadata["global_channels"]
        """G"""
        self.views: int = table.metadata.get("views", 1)
        """of each object, one after the other; the first is the plain one"""
        self._nodes, self._global = table.ragged("nodes"), table.ragged("global")

    @classmethod
    def open(cls, directory: Path, model: ModelConfig, image_size: int) -> FeatureTable:
        """The table for this backbone.

        Raises:
            UserError: there is none, or it was made from another state of the data set; with the command that makes it.
        """
        info = ObjectStore.open(directory).info
        remedy = prepare_command(info.name, features=model.backbone)
        table = cls(features_path(directory, model, image_size), remedy=remedy)
        if table.info["data_set"] != info.identity:
            raise UserError(f"{table.path}: made from another version of {directory}; make it anew with: {remedy}")
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_table, (self.path, self._remedy)

    def nodes(self, row: int, view: int = 0) -> np.ndarray:
        """(N, C) float16, keypoints as in ObjectStore.keypoints."""
        return self._nodes[row * self.views + view].reshape(-1, self.channels)

    def global_feature(self, row: int, view: int = 0) -> np.ndarray:
        """(G,) float32."""
        return self._global[row * self.views + view]


def _open_table(path: Path, remedy: str) -> FeatureTable:
    return FeatureTable(path, remedy=remedy)


def add_features(directory: Path, model: ModelConfig, *, progress: bool = False) -> Path:
    """Makes the table of features for a backbone, on the GPU if there is one; nothing to do when it is there.

    Raises:
        UserError: no data set in `directory`, unknown backbone, or weights that cannot be loaded.
    """
    store = ObjectStore.open(directory)
    path = features_path(directory, model, store.info.image_size)
    if _is_current(path, store):
        return path
    with file_lock(directory / LOCK_FILE), output_folder(path.parent):
        if not _is_current(path, store):
            with atomic_output(path) as partial:
                _write_features(partial, store, model, progress=progress)
            write_manifest(directory)
    return path


def _is_current(path: Path, store: ObjectStore) -> bool:
    try:
        return bool(FeatureTable(path, remedy="").info["data_set"] == store.info.identity)
    except UserError:
        return False


def _write_features(path: Path, store: ObjectStore, model: ModelConfig, *, progress: bool) -> None:
    from tqdm import tqdm

    from nmt.model.backbone import build_backbone
    from nmt.model.weights import weights_fingerprint

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = build_backbone(model, store.info.image_size).to(device)
    info = {
        "version": SCHEMA_VERSION,
        "backbone": model.backbone,
        "weights": weights_fingerprint(model),
        "image_size": store.info.image_size,
        "channels": sum(backbone.channels),
        "global_channels": backbone.global_channels,
        "data_set": store.info.identity,
    }
    schema = _SCHEMA.with_metadata({METADATA_KEY: json.dumps(info).encode()})
    bar = tqdm(total=len(store), desc=f"features {model.backbone}", unit="image", disable=not progress)
    with bar, pa.ipc.new_file(str(path), schema) as file:
        rows: list[dict[str, np.ndarray]] = []
        for row_features in _features(store, backbone, device):
            rows.append(row_features)
            bar.update()
            if len(rows) == _BATCH_ROWS:
                file.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                rows = []
        if rows:
            file.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def _features(store: ObjectStore, backbone: torch.nn.Module, device: torch.device) -> Iterator[dict[str, np.ndarray]]:
    """Each row's `nodes` and `global`, flat, in order.

    On the CPU one batch a thread of ours, with few threads of torch's own within it: those wait for each other after
    every operation, and on two busy cores two of them took four times as long as one.
    """
    cores = torch.get_num_threads()
    num_batches = min(cores, _MAX_BATCHES_AT_ONCE) if device.type == "cpu" else 1

    def batch(first: int) -> list[dict[str, np.ndarray]]:
        torch.set_num_threads(max(1, cores // num_batches))
        return _batch_features(store, range(first, min(first + _BATCH_IMAGES, len(store))), backbone, device)

    waiting: deque[Future[list[dict[str, np.ndarray]]]] = deque()
    try:
        with ThreadPoolExecutor(num_batches) as pool:
            for first in range(0, len(store), _BATCH_IMAGES):
                waiting.append(pool.submit(batch, first))
                if len(waiting) > num_batches:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
    finally:
        torch.set_num_threads(cores)


@torch.inference_mode()
def _batch_features(
    store: ObjectStore, rows: range, backbone: torch.nn.Module, device: torch.device
) -> list[dict[str, np.ndarray]]:
    from nmt.model.sampling import sample_features

    points = [torch.from_numpy(store.points(row).copy()) for row in rows]
    points_BN2 = torch.nn.utils.rnn.pad_sequence(points, batch_first=True).to(device)
    images_BHW3 = torch.from_numpy(np.stack([store.image(row) for row in rows])).to(device)
    maps = backbone(images_BHW3.permute(0, 3, 1, 2))  # channels last, as convolutions prefer
    nodes_BNC = sample_features(maps.first_BCHW, maps.second_BCHW, points_BN2, store.info.image_size)
    nodes = nodes_BNC.half().cpu().numpy()
    global_BG = maps.global_BG.float().cpu().numpy()
    return [{"nodes": nodes[b, : len(points[b])].ravel(), "global": global_BG[b]} for b in range(len(rows))]

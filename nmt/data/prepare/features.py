"""Maker of feature tables: frozen backbone features at the keypoints, in features/BACKBONE-SIZE-WEIGHTS.arrow.

The rows are in the order of objects.arrow (nmt/data/store/objects.py). Columns: `nodes` list<float16> (N * C, both
channel-normalised maps read at the N keypoints) and `global` list<float32> (G). The metadata, JSON under the key `nmt`,
names the backbone, its weights and the data set.

A table of several views (nmt/data/prepare/views.py) holds the views of an object one after the other. Each row then
also has `points` list<float32> and `visible` list<uint8> of all keypoints, and `mirrored` uint8.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from nmt.config import ModelConfig
from nmt.data.prepare.views import ViewMaker
from nmt.data.store.arrow import METADATA_KEY, SCHEMA_VERSION
from nmt.data.store.features import _SCHEMA, _VIEWS_SCHEMA, PLAIN, SAMPLING, FeatureTable, ViewOptions, features_path
from nmt.data.store.manifest import write_manifest
from nmt.data.store.node_copy import folder_to_write
from nmt.data.store.objects import LOCK_FILE, ObjectStore
from nmt.errors import UserError
from nmt.io.files import atomic_output, file_lock, output_folder

BATCH_IMAGES = 16
"""images per forward pass of the backbone"""
_BATCH_ROWS = 512
"""rows per Arrow record batch of the table, at least"""
_MAX_BATCHES_AT_ONCE = 8
"""forward passes at once on a CPU, which bounds their memory"""


@dataclass(frozen=True)
class FeatureJob:
    """A feature table to make; it is sent to other processes."""

    directory: Path
    """folder of the data set"""
    model: ModelConfig
    """backbone and weights"""
    views: ViewOptions
    """number of views per object, and their augmentation"""


FeatureRows = Callable[[FeatureJob, Sequence[range]], Iterator[pa.RecordBatch]]
"""function that makes ranges of a table's rows and yields them in order"""


def add_features(
    data: str | Path,
    model: ModelConfig,
    *,
    views: ViewOptions = PLAIN,
    progress: bool = False,
    make: FeatureRows | None = None,
) -> Path:
    """Make the feature table of a backbone, on the GPU if there is one. A table that is up to date is kept.

    Args:
        data: folder or address of the data set.
        model: backbone and weights.
        views: number of views per object, and their augmentation.
        progress: show a progress bar on standard error.
        make: function that makes the rows; None: this process.

    Returns:
        Path of the table.

    Raises:
        UserError: no data set there, unknown backbone, or weights that cannot be loaded.
    """
    with folder_to_write(data) as folder:
        store = ObjectStore.open(folder)
        path = features_path(folder, model, store.info.image_size, views)
        if not _is_current(path, store):
            with file_lock(folder / LOCK_FILE), output_folder(path.parent):
                if not _is_current(path, store):  # another process may have made it while we waited for the lock
                    job = FeatureJob(folder.absolute(), model, views)
                    with atomic_output(path) as partial:
                        _write_features(partial, store, job, progress, make or feature_rows)
                    write_manifest(folder)
    return path


def _is_current(path: Path, store: ObjectStore) -> bool:
    try:
        info = FeatureTable(path, remedy="").info
        return bool(info["data_set"] == store.info.identity and info.get("sampling") == SAMPLING)
    except UserError:
        return False


def _write_features(path: Path, store: ObjectStore, job: FeatureJob, progress: bool, make: FeatureRows) -> None:
    from tqdm import tqdm

    from nmt.model.weights import weights_fingerprint

    num = len(store) * job.views.num
    ranges = [range(first, min(first + BATCH_IMAGES, num)) for first in range(0, num, BATCH_IMAGES)]
    # The backbone knows the widths only once it is built, and the schema needs them: look at the first rows.
    made = make(job, ranges)
    first = next(made)
    widths = json.loads(first.schema.metadata[METADATA_KEY])
    info = {
        "version": SCHEMA_VERSION,
        "sampling": SAMPLING,
        "backbone": job.model.backbone,
        "weights": weights_fingerprint(job.model),
        "image_size": store.info.image_size,
        **widths,
        **job.views.to_dict(),
        "data_set": store.info.identity,
    }
    schema = first.schema.with_metadata({METADATA_KEY: json.dumps(info).encode()})
    bar = tqdm(total=num, desc=f"features {job.model.backbone}", unit="image", disable=not progress)
    waiting: list[pa.RecordBatch] = []
    with bar, pa.ipc.new_file(str(path), schema) as file:
        for rows in itertools.chain([first], made):
            bar.update(rows.num_rows)
            waiting.append(rows.replace_schema_metadata(schema.metadata))
            if sum(batch.num_rows for batch in waiting) >= _BATCH_ROWS:
                file.write_batch(pa.concat_batches(waiting))
                waiting = []
        if waiting:
            file.write_batch(pa.concat_batches(waiting))


def feature_rows(job: FeatureJob, ranges: Sequence[range]) -> Iterator[pa.RecordBatch]:
    """Make rows in this process (a `FeatureRows`).

    On a CPU, each thread runs one batch, with few of torch's own threads inside it. Torch's threads wait for each other
    after every operation: on two busy cores, two of them took four times as long as one.
    """
    maker, cores = FeatureMaker(job), torch.get_num_threads()
    num_batches = min(cores, _MAX_BATCHES_AT_ONCE) if maker.device.type == "cpu" else 1

    def batch(rows: range) -> pa.RecordBatch:
        torch.set_num_threads(max(1, cores // num_batches))
        return maker(rows)

    waiting: deque[Future[pa.RecordBatch]] = deque()
    try:
        with ThreadPoolExecutor(num_batches) as pool:
            for rows in ranges:
                waiting.append(pool.submit(batch, rows))
                if len(waiting) > num_batches:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(cores)


class FeatureMaker:
    """Maker of a table's rows: holds the data set and the backbone, on the GPU if there is one."""

    def __init__(self, job: FeatureJob) -> None:
        from nmt.model.backbone import build_backbone

        self.store = ObjectStore.open(job.directory)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._backbone = build_backbone(job.model, self.store.info.image_size).to(self.device)
        self._num_views, self._view = job.views.num, ViewMaker(self.store, job.views)

    @torch.inference_mode()
    def __call__(self, rows: range) -> pa.RecordBatch:
        """Make a range of rows; row = object * views + view. The feature widths are the batch's metadata."""
        views = [self._view(*divmod(row, self._num_views)) for row in rows]
        points = [torch.from_numpy(view.points_N2.copy()) for view in views]
        points_BN2 = torch.nn.utils.rnn.pad_sequence(points, batch_first=True).to(self.device)
        images_BHW3 = torch.from_numpy(np.stack([view.image_HW3 for view in views])).to(self.device)
        maps = self._backbone(images_BHW3.permute(0, 3, 1, 2))  # channels last, as convolutions prefer
        nodes_BNC = self._backbone.sample(maps, points_BN2)
        # float16 halves the table; the features have unit length per map, so they cannot overflow.
        nodes, global_BG = nodes_BNC.half().cpu().numpy(), maps.global_BG.float().cpu().numpy()
        content: list[dict[str, Any]] = [
            {"nodes": nodes[b, : len(points[b])].ravel(), "global": global_BG[b]} for b in range(len(rows))
        ]
        if self._num_views > 1:
            for found, view in zip(content, views, strict=True):
                found |= {"points": view.points_N2.ravel(), "visible": view.visible_N.view(np.uint8)}
                found["mirrored"] = int(view.mirrored)
        widths = {"channels": sum(self._backbone.channels), "global_channels": self._backbone.global_channels}
        schema = _VIEWS_SCHEMA if self._num_views > 1 else _SCHEMA
        batch = pa.RecordBatch.from_pylist(content, schema=schema)
        return batch.replace_schema_metadata({METADATA_KEY: json.dumps(widths)})

"""Write objects.arrow in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from nmt.data.graph import delaunay_edges
from nmt.data.store.arrow import METADATA_KEY
from nmt.data.store.objects import _SCHEMA, IMAGE_CODINGS, MIN_KEYPOINTS, ROWS_SCHEMA, SPLITS, StoreInfo

_BATCH_ROWS, _BATCH_BYTES = 4096, 64 << 20


@dataclass(frozen=True)
class RawObject:
    """One object as a reader of raw data gives it."""

    id: str
    category: str
    split: str
    """train, val or test"""
    photo: str
    """name of the photograph; views of one photograph share it"""
    image: np.ndarray
    """uint8 (size, size, 3): cropped and resized to the square input"""
    points: Mapping[str, tuple[float, float]]
    """keypoint name -> (x, y) pixels of the square, inside it"""
    shown: tuple[float, float] | None = None
    """width and height of the part of the photograph that `image` shows, pixels of it; None: as large as `image`"""
    box: tuple[float, float] | None = None
    """width and height of the object's annotated box, pixels of the photograph; None: it has none"""


def encode_objects(
    objects: Sequence[RawObject], keypoint_names: Mapping[str, list[str]], *, image_size: int, image_coding: str
) -> pa.RecordBatch:
    """Encode objects as rows, whose photographs are still names.

    Args:
        objects: each with at least MIN_KEYPOINTS keypoints.
        keypoint_names: category -> keypoint names, in the order of the columns.
    """
    assert image_coding in IMAGE_CODINGS, image_coding
    categories = {category: k for k, category in enumerate(keypoint_names)}
    rows = []
    for raw in objects:
        numbers = {name: k for k, name in enumerate(keypoint_names[raw.category])}
        known = sorted((numbers[name], xy) for name, xy in raw.points.items())
        points_N2 = np.array([xy for _, xy in known], np.float32)
        inside = np.isfinite(points_N2).all() and (points_N2 >= 0).all() and (points_N2 <= image_size).all()
        assert len(known) >= MIN_KEYPOINTS and inside, f"{raw.id}: points {raw.points}"
        assert raw.image.shape == (image_size, image_size, 3) and raw.image.dtype == np.uint8, raw.id
        rows.append(
            {
                "id": raw.id,
                "category": categories[raw.category],
                "split": SPLITS.index(raw.split),
                "photo": raw.photo,
                "image": encode_jpeg(raw.image) if image_coding == "jpeg" else raw.image.tobytes(),
                "keypoints": np.array([k for k, _ in known], np.int16),
                "points": points_N2.ravel(),
                "edges": delaunay_edges(points_N2).ravel(),
                "sizes": np.array([raw.shown or (image_size, image_size), raw.box or (0, 0)], np.float32).ravel(),
            }
        )
    return pa.RecordBatch.from_pylist(rows, schema=ROWS_SCHEMA)


class ObjectWriter:
    """Writer of objects.arrow.

    Args:
        path: the file to write; see nmt/io/files.py for writing it atomically.
        keypoint_names: category -> keypoint names, in the order of the columns.
        image_size: pixels per side.
        image_coding: one of IMAGE_CODINGS.
    """

    def __init__(
        self, path: Path, keypoint_names: Mapping[str, list[str]], *, image_size: int, image_coding: str
    ) -> None:
        self._path, self._rows_path = path, path.with_name(path.name + ".rows")
        self._names, self._size, self._coding = keypoint_names, image_size, image_coding
        self._photos: dict[str, int] = {}
        self._objects: list[RawObject] = []
        self._waiting: list[pa.RecordBatch] = []
        self.counts = {split: dict.fromkeys(keypoint_names, 0) for split in SPLITS}
        self._file = pa.ipc.new_file(str(self._rows_path), _SCHEMA)

    def add(self, raw: RawObject) -> None:
        """Append one object."""
        self._objects.append(raw)
        if len(self._objects) >= _BATCH_ROWS or len(self._objects) * raw.image.nbytes >= _BATCH_BYTES:
            self._encode()

    def _encode(self) -> None:
        objects, self._objects = self._objects, []
        if objects:
            rows = encode_objects(objects, self._names, image_size=self._size, image_coding=self._coding)
            self.add_rows(rows)

    def add_rows(self, rows: pa.RecordBatch) -> None:
        """Append rows that `encode_objects` returned."""
        categories, numbers = list(self._names), []
        columns = (rows.column(name).to_pylist() for name in ("split", "category", "photo"))
        for split_number, category_number, photo in zip(*columns, strict=True):
            split, category = SPLITS[split_number], categories[category_number]
            self.counts[split][category] += 1
            if photo not in self._photos:
                self._photos[photo] = len(self._photos)
            numbers.append(self._photos[photo])
        column = _SCHEMA.get_field_index("photo")
        self._waiting.append(rows.set_column(column, _SCHEMA.field(column), pa.array(numbers, pa.int32())))
        if self._waiting_rows >= _BATCH_ROWS or sum(batch.nbytes for batch in self._waiting) >= _BATCH_BYTES:
            self._flush()

    @property
    def _waiting_rows(self) -> int:
        return sum(batch.num_rows for batch in self._waiting)

    def _flush(self) -> None:
        if self._waiting_rows:
            self._file.write_batch(pa.concat_batches(self._waiting))
        self._waiting = []

    def finish(self, info: StoreInfo) -> None:
        """Complete the file.

        The counts lead the file but are known only now, so the rows are copied behind them.
        """
        self._encode()
        self._flush()
        self._file.close()
        schema = _SCHEMA.with_metadata({METADATA_KEY: info.to_json()})
        with pa.memory_map(str(self._rows_path)) as rows, pa.ipc.new_file(str(self._path), schema) as file:
            reader = pa.ipc.open_file(rows)
            for k in range(reader.num_record_batches):
                file.write_batch(reader.get_batch(k).replace_schema_metadata(schema.metadata))

    def close(self) -> None:
        """Remove the temporary rows beside the file. Call it in any case."""
        self._file.close()
        self._rows_path.unlink(missing_ok=True)


def encode_jpeg(image_HW3: np.ndarray) -> bytes:
    """Encode an image as JPEG at quality 95 without colour subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()

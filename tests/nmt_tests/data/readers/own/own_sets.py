"""Folders of a user's own images, made for the tests of their formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nmt.config import Config, with_overrides
from nmt.data.readers.base import RawListing
from nmt.data.readers.own import read as own
from tests.nmt_tests.data.readers.raw_sets import SQUARE, or_one_line, write_image


def read(raw: Path, *, skip_bad: bool = False, clip_to_box: bool = False) -> RawListing:
    return own.read(raw, skip_bad=skip_bad, clip_to_box=clip_to_box)


def config(name: str = "birds", size: int = 32) -> Config:
    return with_overrides(Config(), {"data.name": name, "data.image_size": size}, source="test")


def images(root: Path, num: int = 60, folder: str = "images") -> list[str]:
    """Images 0.jpg, 1.jpg, ... of 40 x 20 pixels."""
    return [write_image(root / folder / f"{k}.jpg").name for k in range(num)]


def objects(num: int = 60, **more: Any) -> list[dict[str, Any]]:
    """A JSON list with one bird per image."""
    keypoints = {name: list(xy) for name, xy in SQUARE.items()}
    return [{"image": f"{k}.jpg", "category": "bird", "keypoints": dict(keypoints), **more} for k in range(num)]


def write_json(root: Path, content: Any, name: str = "points.json") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root


def listing_or_one_line(root: Path, name: str, content: bytes) -> None:
    """Read the folder with one more file; it gives a listing, or an error of one line."""
    (root / name).write_bytes(content)
    try:
        with or_one_line():
            read(root)
    finally:
        (root / name).unlink()

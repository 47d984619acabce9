"""Using a trained matcher: load it, match pairs of a data set for a picture, or match two images of one's own."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nmt.batch import PairBatch, Side
from nmt.config import with_overrides
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.errors import UserError
from nmt.inference.load import load_matcher
from nmt.inference.pictures import MatchedPair
from nmt.inference.sample import match_batch
from nmt.io.files import require_file
from nmt.model.sampling import sample_features


def match_images(
    path: Path, images: Sequence[Path], keypoints: Sequence[Path], *, decode: Mapping[str, Any] | None = None
) -> tuple[MatchedPair, list[tuple[str, str | None]]]:
    """Match the keypoints of two images of one's own with the matcher at `path`.

    Args:
        images: two image files.
        keypoints: two CSV files, a line a keypoint: name,x,y in pixels of the image file.
        decode: decode.* keys and values, instead of the checkpoint's.

    Returns:
        The pair for a picture, and (source name, matched target name) for each source keypoint.
    """
    matcher, config, _ = load_matcher(path)
    config = with_overrides(config, decode or {}, source="--set")
    backbone = matcher.backbone
    if backbone is None:  # a head trained on features: its backbone is the one the features came from
        from nmt.model.backbone import build_backbone

        backbone = build_backbone(config.model, config.data.image_size)
    size = config.data.image_size
    pictures = [_read_image(image, size) for image in images]
    points = [_read_keypoints(file, *scale, size) for file, (_, scale) in zip(keypoints, pictures, strict=True)]
    views = [
        _single_view(backbone.eval(), picture, np.array(list(named.values()), np.float32), size)
        for (picture, _), named in zip(pictures, points, strict=True)
    ]
    names0, names1 = (list(named) for named in points)
    unknown_BN = torch.full((1, len(names0)), -1)
    batch = PairBatch(views[0], views[1], unknown_BN, torch.zeros(1, dtype=torch.int64))
    predicted_N = match_batch(matcher, batch, config.decode)[0]
    pair = MatchedPair(
        image0_HW3=pictures[0][0],
        image1_HW3=pictures[1][0],
        points0_N2=views[0].points_BN2[0].numpy(),
        points1_M2=views[1].points_BN2[0].numpy(),
        predicted_N=predicted_N,
        match_N=None,
        label=f"{images[0].name} -> {images[1].name}",
    )
    return pair, [(name, names1[k] if k >= 0 else None) for name, k in zip(names0, predicted_N, strict=True)]


@torch.inference_mode()
def _single_view(backbone: torch.nn.Module, image_HW3: np.ndarray, points_N2: np.ndarray, size: int) -> Side:
    maps = backbone(torch.from_numpy(image_HW3.copy()).permute(2, 0, 1)[None])
    points_BN2 = torch.from_numpy(points_N2)[None]
    edges_2E = delaunay_edges(points_N2).astype(np.int64)
    return Side(
        points_BN2=points_BN2,
        num_B=torch.tensor([len(points_N2)]),
        edge_index_2E=torch.from_numpy(edges_2E),
        edge_attr_E2=torch.from_numpy(edge_attributes(points_N2, edges_2E, size)),
        nodes_BNC=sample_features(maps.first_BCHW, maps.second_BCHW, points_BN2, size),
        global_BG=maps.global_BG.float(),
    )


def _read_image(path: Path, size: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The image as a uint8 square, and the factors (x, y) from its own pixels to the square's."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    require_file(path, "image")
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"{path}: not a readable image ({error})") from error
    square = upright.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square), (size / upright.width, size / upright.height)


def _read_keypoints(path: Path, scale_x: float, scale_y: float, size: int) -> dict[str, tuple[float, float]]:
    """name -> (x, y) scaled, from a CSV file of name,x,y lines."""
    require_file(path, "keypoint file")
    named: dict[str, tuple[float, float]] = {}
    try:
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or row == ["name", "x", "y"]:
                    continue
                try:
                    name, x, y = row
                    named[name] = (float(x) * scale_x, float(y) * scale_y)
                except ValueError as error:
                    raise UserError(
                        f"{path}:{number}: expected name,x,y in pixels, but got {','.join(row)!r}"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable keypoint file ({error}); expected lines name,x,y in pixels") from error
    outside = [name for name, (x, y) in named.items() if not (0 <= x <= size and 0 <= y <= size)]
    if outside:
        raise UserError(f"{path}: keypoint {outside[0]!r} lies outside the image")
    if len(named) < 2:
        raise UserError(f"{path}: {len(named)} keypoints; matching needs at least two lines name,x,y")
    return named

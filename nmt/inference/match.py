"""Matching two image files whose keypoints lie in CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.inference.image_matcher import Matches, load_image_matcher
from nmt.inference.inputs import check_keypoints, read_image, read_keypoint_file


def match_images(
    checkpoint: str | Path,
    images: Sequence[str | Path],
    keypoints: Sequence[str | Path],
    *,
    decode: Mapping[str, Any] | None = None,
) -> Matches:
    """Match the keypoints of two image files.

    Args:
        checkpoint: the file (best.pt).
        images: two image files, source and target.
        keypoints: their CSV files, one keypoint per line: name,x,y in pixels of the image.
        decode: decode.* keys and values, instead of those of the checkpoint.

    Raises:
        UserError: not two of each, or a file that is missing or cannot be read.
    """
    if len(images) != 2 or len(keypoints) != 2:
        raise UserError(f"expected two images and two keypoint files, but got {len(images)} and {len(keypoints)}")
    matcher = load_image_matcher(checkpoint, overrides=decode)
    arrays = [read_image(image, source=str(image)) for image in images]
    named = [read_keypoint_file(Path(file)) for file in keypoints]
    for file, points, array in zip(keypoints, named, arrays, strict=True):  # an error names the file
        check_keypoints(points, array, source=str(file))
    label = " -> ".join(Path(image).name for image in images)
    return matcher.match(arrays[0], named[0], arrays[1], named[1], label=label)

"""Matching two image files whose keypoints lie in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.inference.image_matcher import Matches, load_image_matcher
from nmt.inference.inputs import check_keypoints, read_image
from nmt.inference.keypoint_files import read_keypoint_file
from nmt.io.user_files import shown_path


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
        keypoints: their keypoint files: tables with lines name,x,y in pixels of the image, {name: [x, y]} in JSON, or
            annotations that `--prepare` reads, of which those of the image count.
        decode: decode.* keys and values, instead of those of the checkpoint.

    Raises:
        UserError: not two of each, or a file that is missing or cannot be read.
    """
    if len(images) != 2 or len(keypoints) != 2:
        raise UserError(f"expected two images and two keypoint files, but got {len(images)} and {len(keypoints)}")
    arrays = [read_image(image, source=str(image)) for image in images]
    named = [read_keypoint_file(Path(file), image=Path(image)) for file, image in zip(keypoints, images, strict=True)]
    for file, points, array in zip(keypoints, named, arrays, strict=True):  # an error names the file
        check_keypoints(points, array, source=shown_path(Path(file)))
    matcher = load_image_matcher(checkpoint, overrides=decode)  # last, for it takes seconds
    label = " -> ".join(shown_path(Path(Path(image).name)) for image in images)
    return matcher.match(arrays[0], named[0], arrays[1], named[1], label=label)

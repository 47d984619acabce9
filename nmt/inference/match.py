"""Matching image files whose keypoints lie in files: one pair, or a list of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.errors import UserError
from nmt.inference.inputs import check_keypoints, read_image
from nmt.inference.keypoint_files import Labelled, read_labelled
from nmt.io.user_files import listed, shown, shown_path

if TYPE_CHECKING:
    import numpy as np

    from nmt.inference.image_matcher import GivenPair, ImageMatcher
    from nmt.inference.matches import Matches


@dataclass(frozen=True)
class FilePair:
    """Two image files and their keypoints, read and checked."""

    images: tuple[Path, Path]
    files: tuple[Path, Path]
    """that the keypoints came from"""
    keypoints: tuple[Labelled, Labelled]
    arrays: tuple[np.ndarray, np.ndarray] | None = None
    """the images, where they are not to be read again"""

    @property
    def label(self) -> str:
        """Return the caption of the pair: the names of its images."""
        return " -> ".join(shown_path(Path(image.name)) for image in self.images)


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
    from nmt.inference.image_matcher import load_image_matcher

    pair = read_pair(images, keypoints, keep=True)
    return next(match_files(load_image_matcher(checkpoint, overrides=decode), [pair]))


def read_pair(
    images: Sequence[str | Path],
    keypoints: Sequence[str | Path],
    *,
    keep: bool = False,
    read: Callable[[Path], np.ndarray] | None = None,
) -> FilePair:
    """Read two images and their keypoint files, and check them, without loading a matcher, which takes seconds.

    Args:
        images: source and target.
        keypoints: their files.
        keep: keep the images as arrays.
        read: reads an image; by default `read_image`.

    Raises:
        UserError: not two of each, or a file that is missing or cannot be read; it names the file.
    """
    if len(images) != 2 or len(keypoints) != 2:
        raise UserError(f"expected two images and two keypoint files, but got {len(images)} and {len(keypoints)}")
    paths, files = [Path(image) for image in images], [Path(file) for file in keypoints]
    arrays = [read(path) if read else read_image(path, source=str(path)) for path in paths]
    labelled = [read_labelled(file, image=path) for file, path in zip(files, paths, strict=True)]
    for file, one, array in zip(files, labelled, arrays, strict=True):
        check_keypoints(one.points, array, source=shown_path(file))
    both = (arrays[0], arrays[1]) if keep else None
    return FilePair((paths[0], paths[1]), (files[0], files[1]), (labelled[0], labelled[1]), both)


def match_files(matcher: ImageMatcher, pairs: Sequence[FilePair], *, at_once: int = 8) -> Iterator[Matches]:
    """Match pairs of files, a few at a time: the images of more would fill the memory."""
    for first in range(0, len(pairs), at_once):
        part = pairs[first : first + at_once]
        given: list[GivenPair] = []
        for pair in part:
            image0, image1 = pair.arrays or pair.images
            given.append((image0, pair.keypoints[0].points, image1, pair.keypoints[1].points))
        yield from matcher.match_pairs(given, labels=[pair.label for pair in part])


def warning_of(matcher: ImageMatcher, pair: FilePair) -> str | None:
    """Warn, in one line, of what makes the matches of a pair worse than they could be; None if nothing is known."""
    return never_trained(matcher, pair) or _one_to_one(matcher, pair)


def _one_to_one(matcher: ImageMatcher, pair: FilePair) -> str | None:
    """Warn of a one-to-one assignment between sides of different sizes, which matches as many as it can."""
    sizes = [len(labelled.points) for labelled in pair.keypoints]
    if matcher.config.decode.assignment != "hungarian" or sizes[0] == sizes[1]:
        return None
    return (
        f"{pair.label}: {sizes[0]} and {sizes[1]} keypoints, and decode.assignment = hungarian loses recall where some "
        "have no partner (2 to 9 points, measured); argmax does not"
    )


def never_trained(matcher: ImageMatcher, pair: FilePair) -> str | None:
    """Warn, in one line, of an object that the matcher was not trained on; None where nothing is known of one.

    The category of a keypoint file counts, or the names of its keypoints where it has none.
    """
    for file, labelled in zip(pair.files, pair.keypoints, strict=True):
        where, trained = shown_path(file), listed(matcher.categories, most=5)
        if labelled.category is not None and matcher.categories and labelled.category not in matcher.categories:
            what = f"its category {shown(labelled.category)}"
        elif labelled.category is None and matcher.keypoint_names:
            known = {name for names in matcher.keypoint_names.values() for name in names}
            if known & set(labelled.points):
                continue
            what = "none of its keypoint names"
        else:
            continue
        verb = "was not" if labelled.category is not None else "was"
        return f"{where}: {what} {verb} in the training (on {trained}); the matches may be worth little"
    return None

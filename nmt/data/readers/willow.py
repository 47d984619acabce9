"""Reader of WILLOW-ObjectClass (Cho et al., ICCV 2013): one folder per category, IMAGE.png or .jpg with IMAGE.mat.

Extensions may have capitals. Where a photograph has several images, the PNG is read, as published, then the JPEG.
Hidden files are ignored: macOS puts `._IMAGE.mat` beside each file of an archive.

Two data sets are made from it. `willow` is the published one: whole photographs, resized to the square input, with ten
keypoints each. All its objects are upright and face the same way, so positions alone solve it. `willow_rotated` is
harder: ten views per photograph, each rotated by any angle, mirrored or not, moved and scaled with its keypoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nmt.commands import download_command
from nmt.data.readers.base import FEW_KEYPOINTS, OUTSIDE_IMAGE, REMEDY, SHARES, counting, points_within
from nmt.data.readers.matlab import read_numbers
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS, stable_hash
from nmt.data.store.writer import RawObject
from nmt.errors import UserError
from nmt.io.images import open_image
from nmt.io.user_files import is_folder, visible_entries

NUM_KEYPOINTS = 10
VIEWS = 10
"""rotated views per photograph"""
SCALE = (0.75, 1.1)
"""smallest and largest scale of a rotated view"""
SHIFT = 0.08
"""largest shift of a rotated view in each direction, as a share of the image's side"""

FULL_CATEGORY = 40
"""smallest number of photographs for which a category is split as published"""
FULL_TRAIN, FULL_VAL_SHARE = 20, 0.1
"""photographs per category that the published protocol trains on; share of them that becomes val"""

DAMAGED = {"Face/image_0160"}
"""photographs with a wrong annotation in the published data; always left out"""

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def raw_files(raw: Path) -> list[Path]:
    """Return every file that the data set is made from, sorted. Raises UserError when there is none."""
    found = _found(raw)
    return sorted({*found, *(image for images in found.values() for image in images)})


def keypoint_names(raw: Path) -> dict[str, list[str]]:
    """Return category -> names of its keypoints, "point0" to "point9": WILLOW numbers them only."""
    categories = sorted({annotation.parent.name for annotation in _found(raw)})
    return {category: [f"point{k}" for k in range(NUM_KEYPOINTS)] for category in categories}


@dataclass(frozen=True)
class Photograph:
    """One listed photograph."""

    annotation: Path
    """its .mat file"""
    image: Path | None
    """its image; None: there is none"""
    split: str
    """train, val or test"""

    @property
    def id(self) -> str:
        """Return CATEGORY/IMAGE."""
        return f"{self.annotation.parent.name}/{self.annotation.stem}"


def photographs(raw: Path) -> list[Photograph]:
    """List every photograph with its split, by category and name.

    Args:
        raw: the folder WILLOW-ObjectClass, or its parent.
    """
    found, by_category = _found(raw), dict[str, list[Path]]()
    for annotation in found:
        by_category.setdefault(annotation.parent.name, []).append(annotation)
    return [
        Photograph(annotation, next(iter(found[annotation]), None), splits[annotation.stem])
        for category, in_category in by_category.items()
        for splits in [split_photographs([a.stem for a in in_category], category)]
        for annotation in in_category
    ]


def load(
    photograph: Photograph, *, size: int, seed: int | None, skip_bad: bool
) -> tuple[list[RawObject], Counter[str]]:
    """Load the object in a photograph, or its rotated views.

    Args:
        photograph: the listed photograph.
        size: side of the square image, pixels.
        seed: seed of the ten rotated views (`willow_rotated`); None: the photograph itself (`willow`).
        skip_bad: leave unreadable images and annotations out instead of raising UserError.

    Returns:
        The objects, and reason -> number of objects or keypoints left out.
    """
    if photograph.id in DAMAGED:
        return [], Counter({"known to be damaged": 1})
    objects, left_out = list[RawObject](), Counter[str]()
    with counting(left_out, skip_bad=skip_bad):
        image, points_N2 = _read_image(photograph), _read_points(photograph.annotation)
        named = {f"point{k}": (x, y) for k, (x, y) in enumerate(points_N2.tolist())}
        whole = 0.0, 0.0, float(image.width), float(image.height)
        points = points_within(named, whole, left_out, outside=OUTSIDE_IMAGE)
        objects += _objects(photograph.id, photograph.split, image, points, size, seed, left_out)
    return objects, left_out


def split_photographs(names: list[str], category: str) -> dict[str, str]:
    """Assign the photographs of a category to splits.

    The full data set is split as published: the first twenty photographs by name train, the others test. Of the twenty,
    the tenth (two) with the smallest hashes becomes val. A smaller copy would have no test photographs left, so it is
    split 50 / 25 / 25 % by hash; with ten photographs or more, every split then has at least two.

    Args:
        names: the photographs of the category.
        category: its name, a part of the hash.

    Returns:
        Photograph -> train, val or test.
    """
    by_hash = sorted(names, key=lambda name: stable_hash(f"{category}/{name}"))
    if len(names) < FULL_CATEGORY:
        num_train = len(names) // 2
        num_val = (len(names) - num_train) // 2
        parts = (by_hash[:num_train], by_hash[num_train : num_train + num_val], by_hash[num_train + num_val :])
    else:
        first = set(sorted(names)[:FULL_TRAIN])
        chosen = [name for name in by_hash if name in first]
        num_val = round(FULL_VAL_SHARE * FULL_TRAIN)
        parts = (chosen[num_val:], chosen[:num_val], [name for name in names if name not in first])
    return {name: split for split, part in zip(SPLITS, parts, strict=True) for name in part}


def _found(raw: Path) -> dict[Path, list[Path]]:
    """Return .mat file -> the images of its photograph, the one to read first; by category and name.

    Raises:
        UserError: there is none, a folder cannot be read, or two are of one photograph.
    """
    for folder in (raw, raw / "WILLOW-ObjectClass"):
        found: dict[Path, list[Path]] = {}
        for place in (place for place in _visible(folder) if is_folder(place)):
            of_photo: dict[str, list[Path]] = {}
            for file in _visible(place):
                of_photo.setdefault(file.stem, []).append(file)
            found |= dict(_with_images(files) for files in of_photo.values() if _having(files, ".mat"))
        if found:
            return found
    state = "is empty or not WILLOW-ObjectClass" if is_folder(raw) else "does not exist"
    raise UserError(
        f"{raw}: {state}; looked for Car/*.mat, Duck/*.mat, ... beside Car/*.png, in it and below; "
        f"get them with: {download_command('willow', raw)}"
    )


def _with_images(files: list[Path]) -> tuple[Path, list[Path]]:
    """Sort the files of one photograph into its annotation and its images."""
    annotations = _having(files, ".mat")
    if len(annotations) > 1:
        raise UserError(f"{annotations[0]}: {annotations[1].name} annotates the same photograph; remove one of them")
    return annotations[0], [image for suffix in _IMAGE_SUFFIXES for image in _having(files, suffix)]


def _having(files: list[Path], suffix: str) -> list[Path]:
    return [file for file in files if file.suffix.lower() == suffix]


def _visible(folder: Path) -> list[Path]:
    """List what lies in a folder, sorted, hidden files excluded; empty where there is no such folder.

    Raises:
        UserError: it cannot be read, or holds a name that is not text.
    """
    found = [folder / entry.name for entry in visible_entries(folder)]
    for path in found:
        if any("\ud800" <= letter <= "\udfff" for letter in path.name):  # bytes that are not UTF-8
            raise UserError(f"{folder}: holds the name {path.name!a}, which is not UTF-8; rename it")
    return found


def _read_points(annotation: Path) -> np.ndarray:
    """Read the keypoints of a photograph: (10, 2) float64, pixels. Raises UserError."""
    coordinates = read_numbers(annotation, "pts_coord", data_set="WILLOW-ObjectClass")
    if coordinates.shape != (2, NUM_KEYPOINTS) or coordinates.dtype.kind not in "iuf":
        raise UserError(
            f"{annotation}: pts_coord must be 2 x {NUM_KEYPOINTS} numbers, but is {coordinates.shape}; prepare "
            f"keypoints other than those of WILLOW-ObjectClass as a data set of your own (docs/data.md)"
        )
    if not np.isfinite(coordinates).all():
        raise UserError(f"{annotation}: pts_coord must be finite, but holds NaN or infinity; {REMEDY}")
    if ((coordinates >= 0) & (coordinates <= 1)).all():
        raise UserError(f"{annotation}: {SHARES}")
    points_N2: np.ndarray = coordinates.T.astype(np.float64)
    return points_N2


def _read_image(photograph: Photograph) -> Image.Image:
    """Read the image of a photograph. Raises UserError."""
    if photograph.image is None:
        name = photograph.annotation.with_suffix(_IMAGE_SUFFIXES[0]).name
        raise UserError(f"{photograph.annotation}: its image {name} does not exist; {REMEDY}")
    return open_image(photograph.image)


def _objects(
    photo: str,
    split: str,
    image: Image.Image,
    points: Mapping[str, tuple[float, float]],
    size: int,
    seed: int | None,
    left_out: Counter[str],
) -> Iterator[RawObject]:
    """Yield the resized photograph, or with a seed its rotated views; count in `left_out` those with few keypoints."""
    category = photo.split("/")[0]
    square = image.resize((size, size), Image.Resampling.BICUBIC)
    points_N2 = np.array(list(points.values())).reshape(-1, 2) * (size / np.array(image.size))
    for view in range(1 if seed is None else VIEWS):
        view_id, turned, turned_N2 = photo, square, points_N2
        if seed is not None:
            view_id = f"{photo}@{view}"
            turned, turned_N2 = rotated_view(square, points_N2, np.random.default_rng([seed, stable_hash(view_id)]))
        inside = {
            name: (x, y)
            for name, (x, y) in zip(points, turned_N2.tolist(), strict=True)
            if 0 <= x <= size and 0 <= y <= size
        }
        if len(inside) >= MIN_KEYPOINTS:
            # A view is turned within the square, so it has no other aspect ratio to go back to.
            shown = (float(image.width), float(image.height)) if seed is None else None
            yield RawObject(view_id, category, split, photo, np.asarray(turned), inside, shown=shown)
        else:
            left_out[FEW_KEYPOINTS] += 1


def rotated_view(
    square: Image.Image, points_N2: np.ndarray, rng: np.random.Generator
) -> tuple[Image.Image, np.ndarray]:
    """Rotate, mirror (half of the time), scale and shift a square image and its keypoints about its centre.

    Args:
        square: the image.
        points_N2: keypoints (x, y), pixels.
        rng: generator that draws the transform.

    Returns:
        The image, of the same size, and the moved keypoints, some perhaps outside. Areas that the image does not cover
        have its mean colour.
    """
    size = square.width
    angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(*SCALE)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    shift_2 = rng.uniform(-SHIFT, SHIFT, 2) * size
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear_22 = np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror, 1.0])
    centre_2 = np.full(2, size / 2)
    offset_2 = centre_2 + shift_2 - linear_22 @ centre_2
    back_22 = np.linalg.inv(linear_22)  # Pillow maps pixels of the result to pixels of the input
    back_23 = np.column_stack([back_22, -back_22 @ offset_2])
    fill = tuple(int(c) for c in np.asarray(square).mean((0, 1)).round())
    view = square.transform(
        square.size, Image.Transform.AFFINE, back_23.ravel().tolist(), Image.Resampling.BICUBIC, fillcolor=fill
    )
    return view, points_N2 @ linear_22.T + offset_2

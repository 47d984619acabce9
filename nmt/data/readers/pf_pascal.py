"""Reader of PF-PASCAL (Ham et al., TPAMI 2018): lists of pairs, one a split, and the keypoints of each image.

Below the raw folder, PF-dataset-PASCAL holds JPEGImages/IMAGE.jpg and Annotations/CATEGORY/IMAGE.mat, whose `kps` has a
row (x, y) per keypoint, NaN where it is absent. The lists are CSV: source_image, target_image, class (1 to 20), more.

The published lists share photographs, and some whole pairs. Here a photograph has one split, that of the first list of
SPLIT_NAMES; other pairs with it are left out and counted, so test is whole and nothing of it is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nmt.data.readers.base import REMEDY, Entry, RawListing, points_within
from nmt.data.readers.listed_pairs import ListedPairs
from nmt.data.readers.matlab import read_numbers
from nmt.data.readers.values import as_name
from nmt.errors import UserError
from nmt.io.spreadsheet import read_table
from nmt.io.user_files import is_file, is_folder, shown, shown_path

FOLDER = "PF-dataset-PASCAL"
SPLIT_NAMES = {"test": ("test",), "val": ("val",), "train": ("trn", "train")}
"""our split -> its names in the lists' file names"""
LISTS = ("{}_pairs.csv", "{}_pairs_pf_pascal.csv")
COLUMNS = ("source_image", "target_image", "class")
WHOLE = 0.0, 0.0, math.inf, math.inf
"""box of every object, cut at the edges of its image: PCK on PF-PASCAL is published in shares of the image's longer
side, though the annotations have boxes too"""
CATEGORIES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def read(raw: Path, *, skip_bad: bool) -> RawListing:
    """List the pairs of the three lists, and the images they join. Mirrored copies of a pair count as repeated.

    Args:
        raw: the folder PF-dataset-PASCAL with the lists, or its parent.
        skip_bad: leave damaged pairs out instead of raising UserError.

    Raises:
        UserError: not PF-PASCAL, a list that is missing, or damage (without `skip_bad`).
    """
    root, listing, pairs = _find(raw), RawListing(), ListedPairs()
    known: dict[tuple[str, str, str], Entry] = {}
    for split, file in _lists(raw, root):
        listing.files.append(file)
        table = read_table(file)
        for line, row in table.records(COLUMNS):
            with listing.leaving_out(skip_bad=skip_bad):
                where = table.where(line)
                category = _category(row["class"], where)
                named = [(split, category, _image_name(row[side], f"{where}: {side}")) for side in COLUMNS[:2]]
                for key in named:
                    if key not in known:
                        known[key] = _entry(root, *key, listing, where)
                pairs.add(*(known[key] for key in named))
    pairs.put_into(listing)
    listing.refuse_shares(root)
    return listing


def _find(raw: Path) -> Path:
    """Return the folder of images and annotations. Raises UserError."""
    for root in (raw, raw / FOLDER):
        if is_folder(root / "Annotations") and is_folder(root / "JPEGImages"):
            return root
    state = "not PF-PASCAL" if is_folder(raw) else "does not exist"
    raise UserError(
        f"{shown_path(raw)}: {state}; looked for JPEGImages/*.jpg and Annotations/CATEGORY/*.mat, in it and in "
        f"{FOLDER} below"
    )


def _lists(raw: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (split, its list of pairs), test first. Raises UserError where one is missing."""
    places = dict.fromkeys(place / below for place in (raw, root) for below in ("", "image_pairs"))
    for split, names in SPLIT_NAMES.items():
        files = [pattern.format(name) for name in names for pattern in LISTS]
        found = next((place / file for place in places for file in files if is_file(place / file)), None)
        if found is None:
            raise UserError(
                f"{shown_path(raw)}: no list of the pairs of split {split}; looked for {', '.join(files)}, in it, in "
                f"{FOLDER} and in image_pairs"
            )
        yield split, found


def _category(cell: str, where: str) -> str:
    """Return the category of a number, 1 to 20. Raises UserError."""
    numbers = {str(k): name for k, name in enumerate(CATEGORIES, 1)}
    if cell not in numbers:
        raise UserError(f"{where}: class must be a number from 1 to {len(CATEGORIES)}, but is {shown(cell)}")
    return numbers[cell]


def _image_name(cell: str, where: str) -> str:
    """Return the file name of an image that is listed with its folders. Raises UserError."""
    return as_name(PurePosixPath(cell.replace("\\", "/")).name, where)


def _entry(root: Path, split: str, category: str, name: str, listing: RawListing, where: str) -> Entry:
    """Read the keypoints of an image; they are named by their row. Raises UserError."""
    image = root / "JPEGImages" / name
    if not is_file(image):
        raise UserError(f"{where}: its image {shown_path(image)} does not exist; {REMEDY}")
    annotation = root / "Annotations" / category / f"{image.stem}.mat"
    numbers = read_numbers(annotation, "kps", data_set="PF-PASCAL")
    if numbers.ndim != 2 or numbers.shape[1] != 2 or numbers.dtype.kind not in "iuf":
        raise UserError(f"{annotation}: kps must be N x 2 numbers, but is {numbers.shape}; {REMEDY}")
    labelled = {
        str(k): (float(x), float(y)) for k, (x, y) in enumerate(numbers) if not (math.isnan(x) or math.isnan(y))
    }
    listing.files.append(annotation)
    points = points_within(labelled, None, listing.left_out)
    return Entry(f"{category}/{image.stem}", category, split, image.stem, image, points, object_box=WHOLE)

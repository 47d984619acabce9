"""Reader of PF-WILLOW (Ham et al., CVPR 2016): 900 pairs to test on, with ten keypoints each.

PF-dataset holds CATEGORY/IMAGE.png. The list of pairs is a CSV of 42 columns: two images as
PF-dataset/CATEGORY/IMAGE.png, then ten x and ten y of the first, and ten x and ten y of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from nmt.data.readers.base import Entry, RawListing, points_within
from nmt.data.readers.listed_pairs import ListedPairs
from nmt.data.readers.values import as_name
from nmt.errors import UserError
from nmt.io.spreadsheet import Table, read_table
from nmt.io.user_files import is_file, is_folder, shown, shown_path

FOLDER, LISTS = "PF-dataset", ("test_pairs_pf.csv", "test_pairs.csv")
NUM_KEYPOINTS = 10
NUM_COLUMNS = 2 + 4 * NUM_KEYPOINTS
TOLERANCE = 1.0
"""largest difference of a keypoint's position between two pairs of an image, pixels"""


def read(raw: Path, *, skip_bad: bool) -> RawListing:
    """List the pairs and the images they join, all in split test.

    Args:
        raw: the folder PF-dataset, or its parent; the list lies in either.
        skip_bad: leave damaged pairs out instead of raising UserError.

    Raises:
        UserError: not PF-WILLOW, damage (without `skip_bad`), or no pair is left.
    """
    listing, pairs, known = RawListing(), ListedPairs(), dict[str, Entry]()
    file = _list(raw)
    listing.files.append(file)
    table = read_table(file)
    if len(table.header) != NUM_COLUMNS:
        raise UserError(
            f"{shown_path(file)}: has {len(table.header)} columns, but the list of PF-WILLOW has {NUM_COLUMNS}: two "
            f"images, then {NUM_KEYPOINTS} x and {NUM_KEYPOINTS} y of each"
        )
    for line, cells in table.rows[1:]:
        with listing.leaving_out(skip_bad=skip_bad):
            where = table.where(line)
            if len(cells) != NUM_COLUMNS:
                raise UserError(f"{where}: must have {NUM_COLUMNS} columns, but has {len(cells)}")
            half = 2 + 2 * NUM_KEYPOINTS
            sides = [
                _entry(raw, cells[0], _points(table, cells[2:half], where), where),
                _entry(raw, cells[1], _points(table, cells[half:], where), where),
            ]
            for entry in sides:
                _check(known.setdefault(entry.id, entry), entry, where)
            pairs.add(*(known[entry.id] for entry in sides))
    pairs.put_into(listing)
    if not listing.pairs:
        raise UserError(f"{shown_path(file)}: no pair is left{listing.why_few()}")
    listing.refuse_shares(file)
    return listing


def _list(raw: Path) -> Path:
    """Return the list of pairs. Raises UserError."""
    for file in (place / name for place in (raw, raw / FOLDER) for name in LISTS):
        if is_file(file):
            return file
    state = "no list of pairs" if is_folder(raw) else "does not exist"
    raise UserError(f"{shown_path(raw)}: {state}; looked for {' and '.join(LISTS)}, in it and in {FOLDER} below")


def _points(table: Table, cells: Sequence[str], where: str) -> dict[str, tuple[float, float]]:
    """Read the keypoints of one image: ten x, then ten y. Raises UserError."""
    numbers = [table.number(cell, where) for cell in cells]
    xy = zip(numbers[:NUM_KEYPOINTS], numbers[NUM_KEYPOINTS:], strict=True)
    return points_within({f"point{k}": point for k, point in enumerate(xy)}, None)


def _entry(raw: Path, cell: str, points: dict[str, tuple[float, float]], where: str) -> Entry:
    """Find the image of a cell, PF-dataset/CATEGORY/IMAGE.png. Raises UserError."""
    parts = PurePosixPath(cell.replace("\\", "/")).parts[-2:]
    if len(parts) < 2:
        raise UserError(f"{where}: an image must be CATEGORY/IMAGE.png, but is {shown(cell)}")
    category, name = (as_name(part, where) for part in parts)
    places = [place / category / name for place in (raw, raw / FOLDER)]
    image = next((place for place in places if is_file(place)), None)
    if image is None:
        raise UserError(f"{where}: its image {shown_path(places[0])} does not exist, nor does {shown_path(places[1])}")
    # car(G), car(M) and car(S) name their images by one numbering: equal names are one photograph.
    photo = f"{category.partition('(')[0]}/{image.stem}"
    return Entry(f"{category}/{image.stem}", category, "test", photo, image, points)


def _check(known: Entry, found: Entry, where: str) -> None:
    """Raise UserError if two pairs disagree about an image."""
    for name, (x, y) in found.points.items():
        known_x, known_y = known.points.get(name, (x, y))
        if max(abs(x - known_x), abs(y - known_y)) > TOLERANCE:
            raise UserError(
                f"{where}: {name} of {found.id} is at ({x:g}, {y:g}), in an earlier pair at ({known_x:g}, {known_y:g})"
            )

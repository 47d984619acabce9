"""Find the objects that can be paired: two of a split and category, in different photographs, with common keypoints.

Readers ask before images are read, `prepare` asks again once all are, and training asks before its first step.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np

from nmt.data.store.given_pairs import open_pairs
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS, ObjectStore


class Partners:
    """The objects seen so far, by group (split and category).

    Of each set of keypoints, two photographs are kept: they decide for any third. So the memory grows with the number
    of different sets, not with the number of objects.
    """

    def __init__(self) -> None:
        self._photos: dict[Hashable, dict[frozenset[Hashable], tuple[Hashable, ...]]] = {}

    def add(self, group: Hashable, photo: Hashable, keypoints: frozenset[Hashable]) -> None:
        """Add one object."""
        photos = self._photos.setdefault(group, {})
        seen = photos.setdefault(keypoints, ())
        if len(seen) < 2 and photo not in seen:
            photos[keypoints] = (*seen, photo)

    def has(self, group: Hashable, photo: Hashable, keypoints: frozenset[Hashable]) -> bool:
        """True if an object of the group in another photograph shares two keypoints with this one."""
        # Two objects of one photograph would share background and light, so the field never pairs them.
        photos = self._photos.get(group, {})
        if len(keypoints) >= MIN_KEYPOINTS and len(photos.get(keypoints, ())) > 1:
            return True
        return any(
            len(keypoints & others) >= MIN_KEYPOINTS and any(other != photo for other in of_others)
            for others, of_others in photos.items()
        )

    def num_photos(self, group: Hashable) -> int:
        """Return the number of photographs of a group; 2 where there are two or more."""
        photos = {photo for seen in self._photos.get(group, {}).values() for photo in seen}
        return min(len(photos), 2)


def pair_faults(store: ObjectStore) -> Iterator[str]:
    """Yield why pairs cannot be drawn from train or val of a data set; nothing if they can.

    Only the first rows of each category are read, up to its first pair.
    """
    table = open_pairs(store)
    for split in SPLITS[:2]:
        rows = store.rows(split)
        if table is not None:
            if not len(table.of(split)):
                yield f"no given pairs in split {split}"
        elif not any(len(of_category) for of_category in rows):
            yield f"no objects in split {split}"
        else:
            for category, of_category in zip(store.info.categories, rows, strict=True):
                if len(of_category) and not _has_pair(store, of_category):
                    yield (
                        f"category {category} has no two photographs with {MIN_KEYPOINTS} common keypoints "
                        f"in split {split}"
                    )


def has_test(store: ObjectStore) -> bool:
    """True if a data set has pairs to test on: given ones, or objects to draw them from."""
    table = open_pairs(store)
    return any(map(len, store.rows("test"))) if table is None else len(table.of("test")) > 0


def _has_pair(store: ObjectStore, rows: np.ndarray) -> bool:
    partners = Partners()
    for row in rows.tolist():
        photo, keypoints = int(store.photo[row]), frozenset[Hashable](store.keypoints(row).tolist())
        partners.add(None, photo, keypoints)
        if partners.has(None, photo, keypoints):
            return True
    return False

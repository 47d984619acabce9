"""Divide photographs among splits by the rank of a hash of their names, within each category.

A hash of single names leaves a small category with a handful of objects, or none, by chance. A rank gives each category
its share, and at least two photographs. The result depends on neither the order of the files nor on the machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from nmt.data.readers.base import Entry
from nmt.data.store.objects import MIN_KEYPOINTS, stable_hash

VAL_SHARE = {"val": 0.1}
"""share of train that becomes val where the data set has no val of its own"""
LEAST = 2
"""photographs of a category that a split needs: one makes no pair"""

Objects = Collection[AbstractSet[str]]
"""keypoint names of each object that a photograph has of one category"""


def by_category(entries: Iterable[Entry], photos: AbstractSet[str]) -> dict[str, dict[str, list[AbstractSet[str]]]]:
    """Return category -> photograph -> keypoint names of each of its objects, for the photographs given."""
    found: dict[str, dict[str, list[AbstractSet[str]]]] = {}
    for entry in entries:
        if entry.photo in photos:
            found.setdefault(entry.category, {}).setdefault(entry.photo, []).append(frozenset(entry.points))
    return found


def carve_val(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with a tenth of the train photographs of each category in val."""
    train = {entry.photo for entry in entries if entry.split == "train"}
    chosen = split_by_rank(by_category(entries, train), VAL_SHARE)
    return [dataclasses.replace(entry, split=chosen.get(entry.photo, entry.split)) for entry in entries]


def split_by_rank(photos: Mapping[str, Mapping[str, Objects]], shares: Mapping[str, float]) -> dict[str, str]:
    """Divide photographs within each category by the rank of a hash of their names.

    A split with a share gets at least two photographs of a category, where two are left for train. Rare categories
    choose first. A photograph with several categories counts for each of them.

    Args:
        photos: category -> photograph -> keypoints of its objects; photographs of a split share at least two.
        shares: split -> share; the rest is train. Earlier splits are filled first.

    Returns:
        Photograph -> split.
    """
    chosen: dict[str, str] = {}
    categories: dict[str, list[str]] = {}
    for category, of_category in photos.items():
        for photo in of_category:
            categories.setdefault(photo, []).append(category)
    # How many photographs of each category may leave train: a pick for one must not use up those of another. A category
    # too small for a second split keeps all, because one photograph elsewhere would make no pair.
    num = {category: len(of_category) for category, of_category in photos.items()}
    room = {category: count - LEAST if count >= 2 * LEAST else 0 for category, count in num.items()}
    for category in sorted(photos, key=lambda name: (num[name], name)):
        ranked = sorted(photos[category], key=lambda photo: stable_hash(f"{category}/{photo}"))
        for split, share in shares.items():
            picked = _pick(
                [photo for photo in ranked if photo not in chosen],
                [photo for photo in ranked if chosen.get(photo) == split],
                max(LEAST, round(share * len(ranked))),
                objects=photos[category],
                categories=categories,
                room=room,
            )
            chosen |= dict.fromkeys(picked, split)
            for other in (other for photo in picked for other in categories[photo]):
                room[other] -= 1
    return {photo: chosen.get(photo, "train") for photo in categories}


def _pick(
    free: Sequence[str],
    there: Sequence[str],
    wanted: int,
    *,
    objects: Mapping[str, Objects],
    categories: Mapping[str, Sequence[str]],
    room: Mapping[str, int],
) -> list[str]:
    """Pick photographs of one category until a split has enough that share two keypoints with one of them.

    Args:
        free: photographs without a split, in order of rank.
        there: photographs of the category that the split has already.
        wanted: photographs that the split is to have; the most that there are where so many do not share keypoints.
        objects: photograph -> keypoints of its objects.
        categories: photograph -> its categories.
        room: category -> photographs that may still leave train.

    Returns:
        Photographs to add; none where not even two would share keypoints.
    """
    free = [photo for photo in free if all(room[category] > 0 for category in categories[photo])]
    most: list[str] = []
    largest = LEAST - 1
    for first in (*there, *free):
        picked: list[str] = []
        left = dict(room)
        num = sum(photo == first or _share(objects[photo], objects[first]) for photo in there)
        for photo in free if first in there else (first, *(photo for photo in free if photo != first)):
            if num + len(picked) >= wanted:
                break
            if photo != first and not _share(objects[photo], objects[first]):
                continue
            if all(left[category] > 0 for category in categories[photo]):
                picked.append(photo)
                for category in categories[photo]:
                    left[category] -= 1
        if num + len(picked) > largest:
            most, largest = picked, num + len(picked)
        if largest >= wanted:
            break
    return most


def _share(objects0: Objects, objects1: Objects) -> bool:
    """Return True if an object of one photograph and one of another make a pair."""
    return any(len(points0 & points1) >= MIN_KEYPOINTS for points0 in objects0 for points1 in objects1)

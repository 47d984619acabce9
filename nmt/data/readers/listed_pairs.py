"""Given pairs of a raw data set that lists them: which are kept, and which objects they join."""

from __future__ import annotations

from nmt.data.readers.base import Entry, Excluded, RawListing
from nmt.data.store.given_pairs import DIFFICULTIES, NOT_GIVEN, GivenPair
from nmt.data.store.objects import MIN_KEYPOINTS

FEW_COMMON = f"pairs with fewer than {MIN_KEYPOINTS} common keypoints"
OTHER_SPLIT = "pairs with an image of another split"
REPEATED = "pairs listed before"
ONE_IMAGE = "pairs of an image with itself"


class ListedPairs:
    """The pairs of a raw data set without gradings, collected one by one, and the objects that they join."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], GivenPair] = {}
        self._entries: dict[str, Entry] = {}
        self._splits: dict[str, str] = {}
        """photograph -> its split"""

    def add(self, source: Entry, target: Entry) -> None:
        """Add the pair of two objects, which have its split. A pair that is refused leaves no object behind.

        Raises:
            Excluded: a photograph belongs to another split by an earlier pair, both are of one photograph, they share
                too few keypoints, or the pair was added before.
        """
        if any(self._splits.get(entry.photo, entry.split) != entry.split for entry in (source, target)):
            raise Excluded(OTHER_SPLIT)
        if source.photo == target.photo:
            raise Excluded(ONE_IMAGE)
        common = tuple(name for name in source.points if name in target.points)
        if len(common) < MIN_KEYPOINTS:
            raise Excluded(FEW_COMMON)
        if (source.id, target.id) in self._pairs:
            raise Excluded(REPEATED)
        self._entries |= {entry.id: entry for entry in (source, target)}
        self._splits |= {entry.photo: entry.split for entry in (source, target)}
        not_given = (NOT_GIVEN,) * len(DIFFICULTIES)
        self._pairs[source.id, target.id] = GivenPair(source.split, source.id, target.id, common, not_given)

    def splits(self) -> set[str]:
        """Return the splits that have a pair."""
        return {pair.split for pair in self._pairs.values()}

    def put_into(self, listing: RawListing) -> None:
        """Make these pairs, and the objects that they join, those of a listing; objects are sorted by id."""
        listing.entries = [self._entries[key] for key in sorted(self._entries)]
        listing.pairs = list(self._pairs.values())

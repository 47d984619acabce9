"""Evaluation in images mode: the backbone reads each object once, then pairs of objects pass the head.

Evaluation augments nothing, and the features of an object do not depend on its pair or on its batch. So two passes a
pair would compute the same features again and again.

Letters as in nmt/batch.py; U distinct objects of a batch, V their keypoints.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nmt.batch import PairBatch, Side
from nmt.config import Config
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import collate
from nmt.data.stream.pair import Pair
from nmt.model.matcher import Matcher

Encode = Callable[[Side], tuple[Tensor, Tensor]]
"""one side of a batch with images -> features at the keypoints (B, N, C) and global feature (B, G)"""

_TIMES = {"cpu": 4, "cuda": 32}
"""how many times more pairs pass the head at once than the backbone; a CPU's caches hold no more"""


@dataclass(frozen=True)
class _Seen:
    """Features of one object, on the device."""

    nodes_NC: Tensor
    """float32, in stored order"""
    global_G: Tensor
    """float32"""


class SeenObjects:
    """Batches of pairs with the features of their objects, each of which is read once.

    An object is read when its first pair comes and is let go after its last. Evaluation pairs are listed by category,
    so the objects of one category are held at a time. Each takes 4 (N C + G) bytes: 86 kB for 10 keypoints and the
    2048 + 1024 channels of SwinV2-B.

    Args:
        encode: reads the features of images; see `encoder`.
        store: the data set.
        pairs: all the pairs that will come, with each as often as it will come.
        pairs_at_once: half the number of images that pass the backbone at once.
        device: where the features are computed and held.
        width: keypoints to pad to, as in `collate`.
    """

    def __init__(
        self,
        encode: Encode,
        store: ObjectStore,
        pairs: Sequence[Pair],
        *,
        pairs_at_once: int,
        device: torch.device,
        width: int = 0,
    ) -> None:
        self._encode, self._store, self._device, self._width = encode, store, device, width
        self._images_at_once = 2 * pairs_at_once
        self._head_pairs = head_pairs(pairs_at_once, device)
        self._coming = Counter(row for pair in pairs for row in (pair.row0, pair.row1))
        self._seen: dict[int, _Seen] = {}
        self.seconds: list[float] = []
        """of the backbone per object, for each of its batches"""

    @property
    def held(self) -> tuple[int, ...]:
        """Rows of the objects whose features are held."""
        return tuple(self._seen)

    def batches(self, pairs: Sequence[Pair]) -> Iterator[PairBatch]:
        """Yield pairs in their order, in batches for the head."""
        for first in range(0, len(pairs), self._head_pairs):
            yield self.batch(pairs[first : first + self._head_pairs])

    @torch.no_grad()
    def batch(self, pairs: Sequence[Pair]) -> PairBatch:
        """Collate pairs with the features of their objects, on the device."""
        rows = [row for pair in pairs for row in (pair.row0, pair.row1)]
        distinct = list(dict.fromkeys(rows))
        self._read([row for row in distinct if row not in self._seen])
        seen = [self._seen[row] for row in distinct]
        # The row of zeros is what padding reads.
        table_VC = torch.cat([torch.zeros_like(seen[0].nodes_NC[:1]), *(each.nodes_NC for each in seen)])
        global_UG = torch.stack([each.global_G for each in seen])
        starts = np.cumsum([1, *(len(each.nodes_NC) for each in seen)])[:-1].tolist()
        place = {row: (number, start) for number, (row, start) in enumerate(zip(distinct, starts, strict=True))}
        batch = collate(self._store, pairs, width=self._width).to(self._device)

        def with_features(side: Side, objects: Sequence[tuple[int, np.ndarray]]) -> Side:
            index_BN = np.zeros(tuple(side.points_BN2.shape[:2]), np.int64)
            for b, (row, positions) in enumerate(objects):
                index_BN[b, : len(positions)] = place[row][1] + positions
            number_B = torch.tensor([place[row][0] for row, _ in objects])
            nodes_BNC = table_VC[torch.from_numpy(index_BN).to(self._device)]
            return replace(side, nodes_BNC=nodes_BNC, global_BG=global_UG[number_B.to(self._device)])

        source = with_features(batch.source, [(pair.row0, pair.positions0) for pair in pairs])
        target = with_features(batch.target, [(pair.row1, pair.positions1) for pair in pairs])
        self._let_go(rows)
        return replace(batch, source=source, target=target)

    def _read(self, rows: Sequence[int]) -> None:
        """Read the features of objects, each of them with all its keypoints."""
        for first in range(0, len(rows), self._images_at_once):
            some = rows[first : first + self._images_at_once]
            side = images_of(self._store, some).to(self._device)
            started = time.perf_counter()
            nodes_BNC, global_BG = self._encode(side)
            if self._device.type == "cuda":  # kernels run after their call returns
                torch.cuda.synchronize(self._device)
            self.seconds.append((time.perf_counter() - started) / len(some))
            for row, nodes_NC, global_G in zip(some, nodes_BNC.float(), global_BG.float(), strict=True):
                # Copies: a view would hold the whole batch for as long as one of its objects is held.
                own_NC = nodes_NC[: len(self._store.keypoints(row))].clone()
                self._seen[row] = _Seen(own_NC, global_G.clone())

    def _let_go(self, rows: Sequence[int]) -> None:
        """Forget the objects that no later pair shows."""
        self._coming.subtract(rows)
        for row in dict.fromkeys(rows):
            if self._coming[row] <= 0:
                del self._seen[row], self._coming[row]


def pairs_in_memory(config: Config) -> int:
    """Return how many pairs' images the backbone takes at once: as many as training does, which are known to fit."""
    return min(config.train.micro_batch or config.data.pairs_per_step, config.data.pairs_per_step)


def head_pairs(pairs_at_once: int, device: torch.device) -> int:
    """Return how many pairs pass the head at once where the backbone takes the images of `pairs_at_once`."""
    return pairs_at_once * _TIMES.get(device.type, _TIMES["cpu"])


def encoder(matcher: Matcher, *, autocast: torch.autocast) -> Encode:
    """Make the function by which the backbone of `matcher` reads images, computed in `autocast`."""

    def encode(side: Side) -> tuple[Tensor, Tensor]:
        with autocast:
            return matcher.features(side)

    return encode


def images_of(store: ObjectStore, rows: Sequence[int]) -> Side:
    """Collate objects, each with its image and all its keypoints in stored order."""
    images_BHW3 = np.stack([store.image(row) for row in rows])
    return collate(store, [_itself(store, row) for row in rows], images=(images_BHW3, images_BHW3)).source


def _itself(store: ObjectStore, row: int) -> Pair:
    """Pair an object with itself."""
    ids, order = store.keypoints(row), np.arange(len(store.keypoints(row)))
    return Pair(int(store.category[row]), row, row, ids, ids, order, order, order)

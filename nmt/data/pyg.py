"""The Arrow data sets as data sets of PyTorch Geometric, to train a graph network of one's own on our stream.

`ArrowKeypoints` gives the objects of a split, each as a `Data`. `TrainingPairs` and `EvaluationPairs` give the pairs
that our own training and evaluation read, each as a `PairData`. PyG's `DataLoader` takes all three, with any number of
loader processes. This module imports torch_geometric, which takes seconds, so no other module imports this one.

Names follow PyG and its pair examples: `_s` is the source of a pair, `_t` its target. Letters of shapes: N/M keypoints
of source/target, V = N or M, E edges, C channels, G width of the global feature, H x W pixels, A categories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset
from torch_geometric.loader import DataLoader

from nmt.batch import PairBatch, Side
from nmt.config import Config
from nmt.data.graph import edge_attributes
from nmt.data.store.features import FeatureTable, open_features
from nmt.data.store.node_copy import local_copy
from nmt.data.store.objects import SPLITS, ObjectStore
from nmt.data.store.ready import check_fit, needed_files
from nmt.data.stream.pairs import PairStream, eval_pairs, plain_batch
from nmt.errors import UserError
from nmt.metrics import Counts, count_correct

FOLLOW = ["pos_s", "pos_t"]
"""`follow_batch` of PyG's DataLoader: gives `pos_s_batch` and `pos_t_batch`, the pair of each keypoint"""


class PairData(Data):  # type: ignore[misc]
    """A pair of graphs: pos, edge_index and edge_attr with _s and _t, and what the mode adds.

    Features mode adds x (V, C) and global_feature (1, G) of each side, images mode image (1, 3, H, W) uint8.
    `y` (N,) is the index of each source keypoint's match in its own target graph, -1 = none. It is not shifted when
    pairs are batched, as in deep-graph-matching-consensus. `category` (1,) is an index into the data set's categories.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return by how much `key` grows from one pair of a batch to the next: node indices by the nodes."""
        if key in ("edge_index_s", "edge_index_t"):
            return len(self[f"pos_{key[-1]}"])
        return 0


class ArrowKeypoints(Dataset):  # type: ignore[misc]
    """The objects of a split, in the order of the data set, as they are stored.

    An item is a `Data` with pos (V, 2) in pixels, edge_index and edge_attr of the Delaunay graph, y (V,) the id of each
    keypoint within its category, and category (1,). Features mode adds x (V, C) and global_feature (1, G), images mode
    image (1, 3, H, W) uint8.

    Args:
        data: a folder or an address.
        config: its `data` branch decides between features and images, `model.backbone` whose features.
        split: train, val or test.
        transform: applied to each item, as everywhere in PyG.

    Raises:
        UserError: no data set or features there, another image size, or no objects in the split.
    """

    def __init__(
        self, data: str | Path, config: Config, *, split: str = "train", transform: Callable[..., Any] | None = None
    ) -> None:
        self.store, self.features = _open(data, config, split)
        self.categories = self.store.info.categories
        self._rows = sorted(int(row) for rows in self.store.rows(split) for row in rows)
        if not self._rows:
            raise UserError(f"{self.store.directory}: no objects in split {split}")
        super().__init__(transform=transform)

    def len(self) -> int:
        """Return the number of objects."""
        return len(self._rows)

    def get(self, idx: int) -> Data:
        """Return object `idx` of the split."""
        store, row = self.store, self._rows[idx]
        points_V2, edges_2E = store.points(row).copy(), store.edges(row).astype("int64")
        data = Data(
            pos=torch.from_numpy(points_V2),
            edge_index=torch.from_numpy(edges_2E),
            edge_attr=torch.from_numpy(edge_attributes(points_V2, edges_2E, store.info.image_size)),
            y=torch.from_numpy(store.keypoints(row).astype("int64")),
            category=torch.tensor([int(store.category[row])]),
        )
        if self.features is None:
            data.image = torch.from_numpy(store.image(row).copy()).permute(2, 0, 1)[None]
        else:
            data.x = torch.from_numpy(self.features.nodes(row).astype("float32"))
            data.global_feature = torch.from_numpy(self.features.global_feature(row).copy())[None]
        return data


class _Pairs(Dataset):  # type: ignore[misc]
    """What both data sets of pairs share; see `TrainingPairs`."""

    def __init__(self, data: str | Path, config: Config, split: str, transform: Callable[..., Any] | None) -> None:
        # A pair alone needs no padding, and PyG pads nothing.
        self.config = replace(config, data=replace(config.data, pad_keypoints=0))
        self.store, self.features = _open(data, self.config, split)
        self.categories = self.store.info.categories
        super().__init__(transform=transform)


class TrainingPairs(_Pairs):
    """The training stream: item k is pair k of the current epoch, augmented as `data.*` says.

    A pair is a pure function of (data set, seed, epoch, index). So the order of loading and the number of loader
    processes do not matter. An epoch has train.steps_per_epoch x data.pairs_per_step pairs.

    Args:
        data: a folder or an address.
        config: its `data` branch, `train.seed` and the size of an epoch are read; `model.backbone` in features mode.
        split: train or train+val; by default `data.train_split`.
        transform: applied to each item.

    Raises:
        UserError: no data set or features there, or the data set does not fit the configuration.
    """

    def __init__(
        self,
        data: str | Path,
        config: Config,
        *,
        split: str | None = None,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        split = split or config.data.train_split
        super().__init__(data, config, split, transform)
        self.stream = PairStream(
            self.store,
            self.config.data,
            split=split,
            seed=config.train.seed,
            features=self.features,
            outliers_from=config.outliers_from,
        )
        # Shared memory: loader processes that live longer than an epoch (persistent_workers) see the next one too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to load: an index from 0; each one has other pairs. Call it before each epoch."""
        self._epoch.fill_(epoch)

    def len(self) -> int:
        """Return the number of pairs of an epoch."""
        return self.config.train.steps_per_epoch * self.config.data.pairs_per_step

    def get(self, idx: int) -> PairData:
        """Return pair `idx` of the epoch."""
        return pair_data(self.stream.batch(int(self._epoch), [idx]))


class EvaluationPairs(_Pairs):
    """The fixed pairs that a training is validated on, or that `--evaluate` reads; never augmented.

    Args:
        data: a folder or an address.
        config: its `data` branch is read; `model.backbone` in features mode.
        split: train, val or test.
        transform: applied to each item.

    Raises:
        UserError: no data set or features there, another image size, or no pairs in the split.
    """

    def __init__(
        self, data: str | Path, config: Config, *, split: str = "val", transform: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(data, config, split, transform)
        self._chosen = eval_pairs(self.store, self.config.data, split=split)

    def len(self) -> int:
        """Return the number of pairs."""
        return len(self._chosen)

    def get(self, idx: int) -> PairData:
        """Return pair `idx`."""
        return pair_data(plain_batch(self.store, [self._chosen[idx]], features=self.features))

    def counts(self, predict: Callable[[Data], Tensor], *, batch_size: int = 64) -> Counts:
        """Count the right matches of all pairs by the metric of this project; `accuracy()` of the counts is the mean.

        Args:
            predict: takes a batch, returns for each of its source keypoints the index of the match in its own target
                graph, -1 = none. It is called without gradients.
            batch_size: pairs of a batch.
        """
        found = []
        with torch.no_grad():
            for pairs in DataLoader(self, batch_size=batch_size, follow_batch=FOLLOW):
                category_V, predicted_V = pairs.category[pairs.pos_s_batch], predict(pairs).cpu()
                found.append(count_correct(predicted_V[:, None], pairs.y[:, None], category_V, len(self.categories)))
        correct_PA, total_PA = (torch.stack([getattr(c, name) for c in found]) for name in ("correct_A", "total_A"))
        return Counts(correct_PA.sum(0), total_PA.sum(0))


def pair_data(batch: PairBatch) -> PairData:
    """Return a batch of one pair, without padding, as a pair of PyG."""
    if batch.num_pairs != 1:
        raise ValueError(f"needs a batch of one pair, but got {batch.num_pairs}")
    sides = {**_named(batch.source, "s"), **_named(batch.target, "t")}
    return PairData(**sides, y=batch.match_BN[0], category=batch.category_B)


def _named(side: Side, end: str) -> dict[str, Tensor]:
    """Return the tensors of a side of one pair under PyG's names."""
    named: dict[str, Tensor | None] = {
        "pos": side.points_BN2[0],
        "edge_index": side.edge_index_2E,
        "edge_attr": side.edge_attr_E2,
        "x": None if side.nodes_BNC is None else side.nodes_BNC[0].float(),
        "global_feature": side.global_BG,
        "image": side.image_B3HW,
    }
    return {f"{name}_{end}": value for name, value in named.items() if value is not None}


def _open(data: str | Path, config: Config, split: str) -> tuple[ObjectStore, FeatureTable | None]:
    """Open a data set, and in features mode the table that the configuration asks for.

    Raises:
        UserError: no data set or features there, another image size, or no such split.
    """
    if not {*split.split("+")} <= {*SPLITS}:
        raise UserError(f"split must be one of {', '.join(SPLITS)}, or several joined by +, but got {split!r}")
    folder = local_copy(data, features=needed_files(config))
    store = ObjectStore.open(folder)
    features = open_features(folder, config) if config.data.mode == "features" else None
    return store, check_fit(store, config.data, features)

"""The data sets for PyTorch Geometric: the same values as our own batches, whoever loads them."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nmt.batch import PairBatch
from nmt.data.stream.pairs import eval_batches
from nmt.errors import UserError
from nmt.metrics import count_correct
from tests.nmt_tests.toy_training import small


@pytest.fixture(scope="module")
def pyg() -> ModuleType:
    """The module, imported when a test needs it: it takes seconds."""
    return importlib.import_module("nmt.data.pyg")


def loaded(dataset, **options):
    from torch_geometric.loader import DataLoader

    return DataLoader(dataset, follow_batch=["pos_s", "pos_t"], **options)


def check_same(pairs, batch: PairBatch) -> None:
    """Every real keypoint, feature, edge and match of our padded batch, in PyG's flat form."""
    for end, side in (("s", batch.source), ("t", batch.target)):
        mask = side.mask_BN
        assert torch.equal(pairs[f"pos_{end}"], side.points_BN2[mask])
        assert torch.equal(pairs[f"pos_{end}_batch"], mask.nonzero()[:, 0])
        flat = mask.flatten().cumsum(0) - 1  # padded index -> index without padding
        assert torch.equal(pairs[f"edge_index_{end}"], flat[side.edge_index_2E])
        assert torch.equal(pairs[f"edge_attr_{end}"], side.edge_attr_E2)
        if side.nodes_BNC is not None:
            assert torch.equal(pairs[f"x_{end}"], side.nodes_BNC[mask].float())
            assert torch.equal(pairs[f"global_feature_{end}"], side.global_BG)
        else:
            assert torch.equal(pairs[f"image_{end}"], side.image_B3HW)
    assert torch.equal(pairs.y, batch.match_BN[batch.source.mask_BN])
    assert torch.equal(pairs.category, batch.category_B)


@pytest.mark.parametrize("changes", [{}, {"data__mode": "images"}, {"data__pad_keypoints": 24}], ids=str)
def test_a_batch_of_training_pairs_is_that_of_our_stream(pyg: ModuleType, toy_data: Path, changes: dict) -> None:
    config = small(**changes)
    pairs = pyg.TrainingPairs(toy_data, config)
    assert len(pairs) == config.train.steps_per_epoch * config.data.pairs_per_step
    plain = dataclasses.replace(config.data, pad_keypoints=0)
    stream = type(pairs.stream)(pairs.store, plain, split="train", seed=config.train.seed, features=pairs.features)
    seen = []
    for epoch in (0, 2):
        pairs.set_epoch(epoch)
        for step, batch in zip(range(2), loaded(pairs, batch_size=4), strict=False):
            check_same(batch, stream.batch(epoch, range(4 * step, 4 * step + 4)))
            seen.append(batch.pos_s)
    assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in zip(seen[:2], seen[2:], strict=True))


@pytest.mark.parametrize("persistent", [False, True])
def test_loader_processes_change_nothing_and_see_the_epoch(pyg: ModuleType, toy_data: Path, persistent: bool) -> None:
    alone, apart = (pyg.TrainingPairs(toy_data, small()) for _ in range(2))
    processes = loaded(apart, batch_size=4, num_workers=2, persistent_workers=persistent)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        apart.set_epoch(epoch)
        for here, there in zip(loaded(alone, batch_size=4), processes, strict=True):
            assert here.keys() == there.keys() and all(torch.equal(here[key], there[key]) for key in here.keys())  # noqa: SIM118


def test_evaluation_pairs_are_ours_and_are_counted_by_our_metric(pyg: ModuleType, toy_data: Path) -> None:
    config = small()
    pairs = pyg.EvaluationPairs(toy_data, config, split="val")
    ours = list(eval_batches(pairs.store, config.data, split="val", features=pairs.features, batch_size=5))
    for batch, wanted in zip(loaded(pairs, batch_size=5), ours, strict=True):
        check_same(batch, wanted)
    first = [torch.zeros_like(batch.match_BN) for batch in ours]
    parts = [count_correct(f, b.match_BN, b.category_B, 2) for f, b in zip(first, ours, strict=True)]
    counts = pairs.counts(lambda batch: torch.zeros_like(batch.y), batch_size=7)
    assert torch.equal(counts.correct_A, sum(part.correct_A for part in parts))
    assert torch.equal(counts.total_A, sum(part.total_A for part in parts)) and 0 < counts.accuracy() < 1
    assert pairs.counts(lambda batch: batch.y).accuracy() == 1


@pytest.mark.parametrize("mode", ["features", "images"])
def test_objects_have_what_is_stored(pyg: ModuleType, toy_data: Path, mode: str) -> None:
    from torch_geometric.utils import is_undirected

    config = small(data__mode=mode)
    objects = pyg.ArrowKeypoints(toy_data, config, split="val")
    store = objects.store
    rows = sorted(int(row) for rows in store.rows("val") for row in rows)
    assert len(objects) == len(rows) and objects.categories == store.info.categories
    for number in (0, len(rows) - 1):
        item, row = objects[number], rows[number]
        assert item.pos.numpy().tolist() == store.points(row).tolist()
        assert item.y.tolist() == store.keypoints(row).tolist() and item.num_nodes == len(item.y)
        assert item.category.tolist() == [store.category[row]]
        assert is_undirected(item.edge_index) and not item.has_self_loops()
        if mode == "features":
            assert item.x.numpy().tolist() == objects.features.nodes(row).astype("float32").tolist()
        else:
            assert item.image[0].permute(1, 2, 0).numpy().tolist() == store.image(row).tolist()
    batch = next(iter(loaded(objects, batch_size=3)))
    assert batch.num_graphs == 3 and batch.edge_index.max() == batch.num_nodes - 1
    assert len(objects[:2]) == 2 and pickle.loads(pickle.dumps(objects))[1].y.tolist() == objects[1].y.tolist()


def test_a_transform_of_pyg_is_applied(pyg: ModuleType, toy_data: Path) -> None:
    pairs = pyg.TrainingPairs(toy_data, small(), transform=lambda pair: pair.pos_s.mean())
    assert pairs[0].ndim == 0


@pytest.mark.parametrize(
    ("kind", "arguments", "changes", "message"),
    [
        ("ArrowKeypoints", {"split": "tset"}, {}, "split must be one of .*val.*, but got 'tset'"),
        ("EvaluationPairs", {"split": "val+tset"}, {}, "split must be one of .*, but got 'val.tset'"),
        ("TrainingPairs", {"split": "tset"}, {}, "split must be one of .*, but got 'tset'"),
        ("TrainingPairs", {}, {"data__image_size": 128, "data__mode": "images"}, "64 pixels wide, but data.image_size"),
        ("TrainingPairs", {"data": "absent"}, {}, "absent.*not there; make it with"),
        ("TrainingPairs", {}, {"model__backbone": "swinv2_tiny_window8_256"}, "features.*swinv2"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(
    pyg: ModuleType, toy_data: Path, kind: str, arguments: dict, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        getattr(pyg, kind)(**{"data": toy_data, "config": small(**changes)} | arguments)
    assert "\n" not in str(error.value)

import dataclasses
import multiprocessing
import os
import signal

import pytest
import torch

from nmt.batch import PairBatch
from nmt.config import DataConfig
from nmt.data.stream.loader import Steps, TrainLoader
from nmt.data.stream.pairs import PairStream
from nmt.errors import UserError

IMAGES = DataConfig(name="toy", mode="images", image_size=64, rotation=30.0, mirror=0.5, scale=0.2)
FEATURES = DataConfig(name="toy", mode="features", image_size=64)


@pytest.fixture(scope="module")
def stream(toy_store) -> PairStream:
    return PairStream(toy_store, IMAGES, split="train", seed=0)


def flat(batch: PairBatch) -> list[tuple[bytes, ...]]:
    """Each pair as bytes, without its padding."""
    pairs = []
    for b, num in enumerate(batch.source.num_B.tolist()):
        views = [
            t.numpy().tobytes()
            for view in (batch.source, batch.target)
            for t in (view.points_BN2[b, :num], view.image_B3HW[b].contiguous(), view.draw_B[b])
        ]
        pairs.append((*views, batch.match_BN[b, :num].numpy().tobytes()))
    return pairs


def epoch(
    stream: PairStream,
    *,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    first_step: int = 0,
    num_steps: int = 3,
    micro_batch: int = 0,
):
    """The pairs of each step."""
    loader = loader_of(
        stream,
        steps_per_epoch=first_step + num_steps,
        rank=rank,
        world_size=world_size,
        micro_batch=micro_batch,
        processes=workers,
    )
    return [[pair for part in parts for pair in flat(part)] for parts in loader.epoch(2, first_step)]


def loader_of(
    stream: PairStream, *, steps_per_epoch: int, pairs_per_step: int = 8, processes: int = 0, **values: int
) -> TrainLoader:
    steps = Steps(stream=stream, steps_per_epoch=steps_per_epoch, pairs_per_step=pairs_per_step, **values)
    return TrainLoader(steps, epochs=4, processes=processes)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_loader_processes_do_not_change_a_byte(stream, workers):
    assert epoch(stream, workers=workers) == epoch(stream)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_ranks_together_take_the_pairs_of_one_rank(stream, world_size):
    ranks = [epoch(stream, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, whole in enumerate(epoch(stream)):
        assert [ranks[k % world_size][step][k // world_size] for k in range(8)] == whole


@pytest.mark.parametrize(("micro_batch", "sizes"), [(0, [8]), (3, [3, 3, 2]), (8, [8])])
def test_a_step_comes_in_parts_of_at_most_the_micro_batch(stream, micro_batch, sizes):
    steps = loader_of(stream, steps_per_epoch=3, micro_batch=micro_batch, processes=2).epoch(2)
    assert [[part.num_pairs for part in parts] for parts in steps] == [sizes] * 3
    assert epoch(stream, micro_batch=micro_batch) == epoch(stream)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_continues_in_the_middle(stream, workers):
    assert epoch(stream, first_step=1, num_steps=2, workers=workers) == epoch(stream)[1:]


def test_features_batches_come_from_this_process(toy_store, toy_features):
    stream = PairStream(toy_store, FEATURES, split="train", seed=0, features=toy_features)
    batches = list(loader_of(stream, steps_per_epoch=6, pairs_per_step=5, processes=2).epoch(0, 4))
    assert torch.equal(batches[1][0].source.points_BN2, stream.batch(0, range(25, 30)).source.points_BN2)


def test_stream_travels_to_a_process_started_afresh(stream):
    # DataLoader pickles the stream where processes are spawned; the copy maps the same files.
    import pickle

    copy = pickle.loads(pickle.dumps(stream))
    assert flat(copy.batch(0, range(3))) == flat(stream.batch(0, range(3)))
    assert dataclasses.asdict(copy.config) == dataclasses.asdict(stream.config)


@pytest.mark.parametrize("processes", [0, 2])
def test_a_data_set_that_cannot_pair_ends_in_its_one_line(make_store, toy_objects, processes):
    halves = [dict.fromkeys(names, (1.0, 2.0)) for names in (("c0", "c1", "c2"), ("c2", "c3", "c4"))]
    apart = [dataclasses.replace(o, points=points) for o, points in zip(toy_objects(), halves, strict=False)]
    stream = PairStream(make_store(apart), IMAGES, split="train", seed=0)
    batches = loader_of(stream, steps_per_epoch=2, pairs_per_step=2, processes=processes).epoch(0)
    with pytest.raises(UserError) as error:
        next(batches)
    assert str(error.value) == f"{stream.store.directory}: no two train objects of chair share 2 keypoints"


def children() -> set[int]:
    """The processes that this one has started and that still run."""
    return {process.pid for process in multiprocessing.active_children()}


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_processes_live_over_the_epochs_and_change_no_byte(stream, processes):
    def steps(loader: TrainLoader, epoch: int, first_step: int = 0):
        for parts in loader.epoch(epoch, first_step):
            yield [pair for part in parts for pair in flat(part)]
            seen.append(children() - before)

    before, seen = children(), []
    anew = {k: list(steps(loader_of(stream, steps_per_epoch=5), k)) for k in range(3)}
    seen.clear()
    loader = loader_of(stream, steps_per_epoch=5, processes=processes)
    assert list(steps(loader, 0, first_step=3)) == anew[0][3:]  # resumed there
    assert list(steps(loader, 1)) == anew[1]
    assert all(workers == seen[0] and len(workers) == processes for workers in seen)
    half = steps(loader, 2)
    assert [next(half), next(half)] == anew[2][:2]
    half.close()
    assert list(steps(loader, 2)) == anew[2]  # from its first step again, whatever was loaded ahead
    assert list(steps(loader, 0, first_step=4)) == anew[0][4:]
    loader.close()
    assert children() == before


def test_processes_leave_the_signals_of_a_terminal_to_the_training(stream):
    loader, before = loader_of(stream, steps_per_epoch=40, processes=1), children()
    batches = loader.epoch(0)
    next(batches)
    (worker,) = children() - before
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(worker, number)
    assert len(list(batches)) == 39 and worker in children()
    loader.close()

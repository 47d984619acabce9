"""Sums, maxima and averaged gradients of real processes that train together, and of one that is alone."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from torch import nn

from nmt import distributed
from nmt.metrics import Counts
from tests.nmt_tests.processes import run_together

WORLD = 2


def _rank(rank: int, directory: Path) -> None:
    """One process of the group: writes what it found to `directory`/RANK.json."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{directory}/rendezvous", rank=rank, world_size=WORLD)
    cpu = torch.device("cpu")
    kept, averaged = _gradients(rank)
    counts = Counts(torch.tensor([1.0, rank]), torch.tensor([2.0, 4.0])).reduced()
    found = {
        "rank": distributed.rank(),
        "world_size": distributed.world_size(),
        "sum": distributed.sum_over_ranks(torch.tensor([rank + 1.0, 10.0])).tolist(),
        "largest": distributed.largest(7 * rank, -rank),
        "trainers": distributed.trainers(cpu),
        "kept": kept,
        "averaged": averaged,
        "compressed": _gradients(rank, compression="bf16")[1],
        "counts": [counts.correct_A.tolist(), counts.total_A.tolist()],
    }
    distributed.barrier()
    (directory / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def _gradients(rank: int, **options: str) -> tuple[list[float], list[float]]:
    """The gradient after each of two parts of a second step; the first step is another's, which leaves nothing."""
    model = distributed.data_parallel(_linear(), torch.device("cpu"), **options)
    model(torch.ones(1, 3)).sum().backward()
    model.zero_grad(set_to_none=True)
    found = []
    # The gradients of the first part stay here, those of the second are averaged with the first's.
    for part in range(2):
        with distributed.gradients(model, averaged=part == 1):
            model(_inputs(rank)[part]).sum().backward()
        found.append(model.module.weight.grad.flatten().tolist())
    return found[0], found[1]


def _linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1, bias=False)


def _inputs(rank: int) -> torch.Tensor:
    """(parts, pairs, 3)"""
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(rank))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    directory = tmp_path_factory.mktemp("ranks")
    run_together(_rank, directory, count=WORLD)
    return [json.loads((directory / f"{rank}.json").read_text()) for rank in range(WORLD)]


def test_every_rank_knows_its_number_and_gets_the_same_sums(ranks: list[dict]) -> None:
    assert [(r["rank"], r["world_size"]) for r in ranks] == [(0, 2), (1, 2)]
    assert [r["sum"] for r in ranks] == [[3.0, 20.0]] * 2
    assert [r["largest"] for r in ranks] == [[7, 0]] * 2
    assert [r["counts"] for r in ranks] == [[[2.0, 1.0], [4.0, 8.0]]] * 2


def test_every_rank_lists_all_processes_by_rank(ranks: list[dict]) -> None:
    expected = [{"rank": rank, "host": socket.gethostname(), "device": "cpu"} for rank in range(WORLD)]
    assert [r["trainers"] for r in ranks] == [expected] * 2


def test_gradients_are_the_mean_over_ranks_of_the_sum_over_parts(ranks: list[dict]) -> None:
    own = [_inputs(rank).sum(1) for rank in range(WORLD)]  # the gradient of a sum of linear outputs: the inputs' sum
    for rank, found in enumerate(ranks):
        assert found["kept"] == pytest.approx(own[rank][0].tolist(), abs=1e-5)
        assert found["averaged"] == pytest.approx((sum(own).sum(0) / WORLD).tolist(), abs=1e-5)


def test_compressed_gradients_are_the_same_on_every_rank_and_nearly_the_mean(ranks: list[dict]) -> None:
    assert ranks[0]["compressed"] == ranks[1]["compressed"] != ranks[0]["averaged"]
    assert ranks[0]["compressed"] == pytest.approx(ranks[0]["averaged"], rel=2**-6, abs=1e-2)


def test_alone_nothing_is_exchanged() -> None:
    values, model = torch.tensor([1.0, 2.0]), _linear()
    assert (distributed.rank(), distributed.world_size(), distributed.largest(-3)) == (0, 1, [-3])
    assert distributed.sum_over_ranks(values) is values
    assert distributed.data_parallel(model, torch.device("cpu")) is model
    assert distributed.trainers(torch.device("cpu")) == []
    with distributed.gradients(model, averaged=False):
        model(torch.ones(1, 3)).sum().backward()
    assert model.weight.grad.tolist() == [[1.0, 1.0, 1.0]]
    distributed.barrier()

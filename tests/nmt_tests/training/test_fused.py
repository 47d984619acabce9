"""Joined loops: what is joined, what is not, and what inductor itself counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from nmt.model.window_attention import fuse_window_attention
from nmt.training.fused import fused
from nmt.training.step_trace import Kernel, Recorder

CPU = torch.device("cpu")
ROWS, WIDTH = 64, 100
FLOAT = 4 * ROWS * WIDTH
"""bytes of a tensor below"""


def traced(run: Callable[..., object], *given: Tensor, stage: str = "loss") -> list[Kernel]:
    recorder = Recorder(CPU, stage=stage)
    with recorder:
        kept = run(*given)
        consume(kept)
    return recorder.kernels


def consume(kept: object) -> None:
    """Read a result in a kernel of another stage, so that it counts as wanted."""
    for tensor in kept if isinstance(kept, tuple) else (kept,):
        assert isinstance(tensor, Tensor)
        torch._foreach_mul([tensor], 2.0)


def loops(kernels: Sequence[Kernel]) -> list[tuple[int, int]]:
    """Launches and bytes of the joined kernels."""
    return [(k.launches, k.bytes) for k in fused(kernels) if k.name == "fused"]


def some() -> Tensor:
    return torch.ones(ROWS, WIDTH)


def test_a_chain_reads_its_input_and_writes_its_end():
    assert loops(traced(lambda x: ((x + 1) * x).relu(), some())) == [(1, 2 * FLOAT)]


def test_views_and_changes_in_place_are_part_of_the_chain():
    def run(x: Tensor) -> Tensor:
        y = (x + 1).view(-1)
        y.mul_(3.0)
        return y.view(ROWS, WIDTH).t() * 2

    assert loops(traced(run, some())) == [(1, 2 * FLOAT)]


def test_what_is_wanted_elsewhere_is_written_once():
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        return y, y * 2

    assert loops(traced(run, some())) == [(1, 3 * FLOAT)]


def test_a_product_lies_between_loops_and_a_way_around_it_joins_nothing():
    weight = torch.ones(WIDTH, WIDTH)

    def run(x: Tensor) -> Tensor:
        y = x + 1
        return y @ weight + y  # the sum waits for the product, which waits for y

    kernels = traced(run, some())
    assert loops(kernels) == [(1, 2 * FLOAT), (1, 3 * FLOAT)]
    product = [k for k in kernels if k.flops]
    assert [k for k in fused(kernels) if k.flops] == product


def test_sums_along_rows_are_joined_and_sums_over_rows_are_not():
    along = loops(traced(lambda x: (x * 2) / (x * 2).sum(1, keepdim=True), some()))
    assert [count for count, _ in along] == [1] and along[0][1] == 2 * FLOAT
    over = fused(traced(lambda x: (x * 2).sum(0), some()))
    assert [(k.name, k.bytes) for k in over if k.stage == "loss" and not k.name.startswith("_foreach")] == [
        ("sum", FLOAT + 4 * WIDTH), ("fused", 2 * FLOAT)
    ]  # fmt: skip


def test_constants_cost_nothing_where_loops_alone_read_them():
    assert loops(traced(lambda x: torch.where(x > 0, x, torch.zeros(ROWS, WIDTH)), some())) == [(1, 2 * FLOAT)]
    weight = torch.ones(WIDTH, WIDTH)
    assert loops(traced(lambda: torch.ones(ROWS, WIDTH) @ weight)) == [(1, FLOAT)]


def test_ends_of_two_lengths_are_two_kernels():
    assert loops(traced(lambda x: (x + 1, (x + 1).amax(1)), some())) == [(1, 2 * FLOAT), (1, FLOAT + 4 * ROWS)]

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        return y, y.amax(1)

    # y loops over all elements and so does its maximum along the rows
    assert loops(traced(run, some())) == [(1, 2 * FLOAT + 4 * ROWS)]
    assert loops(traced(lambda x: ((y := x + 1), y[:4] * 2), some())) == [(2, 2 * FLOAT + 4 * 4 * WIDTH)]


def test_other_stages_stay_as_they_are():
    kernels = traced(lambda x: (x + 1) * 2, some(), stage="optimizer")
    assert fused(kernels) == kernels


@st.composite
def steps(draw: st.DrawFn) -> list[Kernel]:
    """Kernels that read some of what was written before, each a loop of one of two lengths or none."""
    found: list[Kernel] = []
    for k in range(draw(st.integers(1, 14))):
        sources = draw(st.sets(st.integers(0, k - 1), max_size=3)) if k else set()
        reads = {(source, 0): draw(st.sampled_from((10, 100))) for source in sorted(sources)}
        loop = draw(st.sampled_from((0, 5, 7)))
        writes = {(k, 0): 100}
        traffic = sum(reads.values()) + sum(writes.values())
        found.append(Kernel("loss", f"{k}", 1, 0 if loop else 3, traffic, torch.float32, reads, writes, loop))
    return found


@given(steps())
def test_whatever_is_joined_can_run_in_some_order_and_moves_no_more(kernels):
    found = fused(kernels)
    assert sum(k.bytes for k in found) <= sum(k.bytes for k in kernels)
    assert sum(k.flops for k in found) == sum(k.flops for k in kernels)
    assert len(found) <= len(kernels)
    written = {memory for k in found for memory in k.writes}
    waiting, done = list(found), set[tuple[int, int]]()
    while waiting:
        ready = [k for k in waiting if all(m in done or m not in written for m in k.reads)]
        assert ready, "kernels wait for each other"
        done |= {memory for k in ready for memory in k.writes}
        waiting = [k for k in waiting if k not in ready]


@pytest.fixture
def counting() -> Iterator[None]:
    """Let inductor count the bytes that its kernels move."""
    torch._logging.set_logs(inductor_metrics=True)
    yield
    torch._logging.set_logs()


@pytest.mark.slow
@pytest.mark.parametrize("one_kernel", [True, False], ids=["fused attention", "explicit attention"])
def test_inductor_counts_about_the_same(counting, one_kernel):
    from torch._inductor import metrics

    torch.manual_seed(0)
    widths = {"embed_dim": 64, "depths": (2,), "num_heads": (2,), "window_size": 12}
    net = SwinTransformerV2(96, patch_size=2, num_classes=0, **widths)
    if one_kernel:
        fuse_window_attention(net)
    block: nn.Module = net.layers[0].blocks[1]  # with shifted windows
    tokens = torch.randn(2, 48, 48, 64, requires_grad=True)

    def run(run_block: Callable[[Tensor], Tensor], begins: Callable[[], None] = lambda: None) -> None:
        out = run_block(tokens)
        begins()
        out.backward(torch.ones_like(out))

    recorder = Recorder(CPU, stage="head forward")
    with recorder:
        run(block, lambda: recorder.begins("backward"))
    ours = fused(recorder.kernels)
    metrics.reset()
    run(torch.compile(block, dynamic=False))
    moved, before = sum(k.bytes for k in ours), sum(k.bytes for k in recorder.kernels)
    assert moved < 0.8 * before
    assert moved == pytest.approx(metrics.num_bytes_accessed, rel=0.2)
    assert len(ours) == pytest.approx(metrics.generated_kernel_count, rel=0.25)

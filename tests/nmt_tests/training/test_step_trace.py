"""The traced step: what it costs, what it needs, and that it never waits for the GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import profile

from nmt.config import with_overrides
from nmt.losses import total_loss
from nmt.recipes import recipe
from nmt.training.step_trace import HiddenWaitError, Recorder, trace_step
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import SMALL, small

CPU = torch.device("cpu")
IMAGES = {"data__mode": "images", "model__backbone": "test_efficientnet", "data__pairs_per_step": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss__reduction": "pairs", "optim__clip_norm": 1.0, "train__ema": 0.99, "optim__weight_decay": 0.1},
        {
            "loss__matching": "sinkhorn",
            "decode__sinkhorn_iterations": 2,
            "train__micro_batch": 1,
            "data__pad_keypoints": 11,
        },
        {"loss__matching": "cross_entropy", "model__normalized": False, "model__spline": False},
        {"train__precision": "fp32"},
        {**IMAGES, "optim__layer_decay": 0.8},
        {**IMAGES, "model__drop_path": 0.0, "optim__backbone_lr_scale": 0.0, "train__ema": 0.9},
    ],
    ids=lambda changes: ",".join(key.partition("__")[2] for key in changes) or "features",
)
def test_no_step_waits_for_the_gpu_or_mixes_devices(toy_data, changes):
    trace = trace_step(small(**changes), data=toy_data)
    assert not trace.waits
    assert trace.peak > trace.resident > 0
    done = set(trace.by_stage())
    assert {"copy to device", "head forward", "loss", "backward", "optimizer"} <= done
    assert ("backbone forward" in done) == ("data__mode" in changes)
    assert ("average" in done) == ("train__ema" in changes)
    assert ("constraints" in done) == ("model__normalized" not in changes)
    assert (torch.bfloat16 in {k.dtype for k in trace.kernels if k.flops}) == ("train__precision" not in changes)


SMALLER = {key: SMALL[key] for key in ("data.name", "data.image_size", "model.weights", "model.d_model", "model.heads")}


@pytest.mark.parametrize("name", ["voc", "spair", "voc_features"])
def test_no_step_of_a_recipe_waits_for_the_gpu(toy_data, name):
    backbone = "tf_efficientnet_lite0" if recipe(name).data.mode == "features" else "test_efficientnet"
    keys = {**SMALLER, "model.backbone": backbone, "data.mix_partner": "objects", "data.pairs_per_step": 2}
    assert not trace_step(with_overrides(recipe(name), keys, source="test"), data=toy_data).waits


@pytest.mark.slow
def test_no_step_of_the_published_backbone_waits_and_its_attention_is_fused(toy_data):
    small_swin = {**IMAGES, "model__backbone": "swinv2_tiny_window8_256"}
    trace = trace_step(small(**small_swin), data=toy_data)
    fused = [k for k in trace.by_stage()["backbone forward"] if k.name == "_scaled_dot_product_efficient_attention"]
    assert not trace.waits
    assert len(fused) == 12  # blocks of the net; a block with explicit attention has none


# --- what is planted is found ---

QUICK = {"model__decoder_layers": 1, "loss__layer": 0.0, "loss__hyperspherical": 0.0}
CONSTANT = torch.arange(4.0)
"""a tensor of the CPU, which a module might have kept"""


def plant(patch: pytest.MonkeyPatch, use: Callable[[Tensor], object]) -> None:
    def planted(terms: dict[str, Tensor], config: object) -> Tensor:
        use(terms["info_nce"])
        return total_loss(terms, config)

    patch.setattr("nmt.losses.total_loss", planted)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: float(x[0]),
        lambda x: x.tolist(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.unique(x),
    ],
    ids=["item", "bool", "float", "tolist", "nonzero", "mask", "unique"],
)
def test_a_value_that_is_read_from_the_gpu_is_found(toy_data, monkeypatch, use):
    plant(monkeypatch, use)
    with pytest.raises(HiddenWaitError, match=r"test_step_trace.py:\d+: .* reads values of the GPU"):
        trace_step(small(**QUICK), data=toy_data)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x.cpu(),
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: CONSTANT.clone().copy_(x),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device),
        lambda x: x + CONSTANT.to(x.device),
        lambda x: x[torch.arange(2)],
    ],
    ids=["cpu", "to", "copy_", "tensor", "to-device", "index"],
)
def test_a_copy_that_the_step_waits_for_is_found(toy_data, monkeypatch, use):
    plant(monkeypatch, use)
    (wait,) = trace_step(small(**QUICK), data=toy_data).waits
    assert wait.startswith("test_step_trace.py:")


def test_a_tensor_of_the_cpu_among_those_of_the_gpu_is_found(toy_data, monkeypatch):
    plant(monkeypatch, lambda x: x * CONSTANT)
    with pytest.raises(RuntimeError, match="same device"):
        trace_step(small(**QUICK), data=toy_data)


def test_a_copy_in_the_background_and_a_plain_number_are_no_wait(toy_data, monkeypatch):
    plant(monkeypatch, lambda x: x * torch.tensor(2.0) + CONSTANT.to(x.device, non_blocking=True))
    assert not trace_step(small(**QUICK), data=toy_data).waits


# --- what is counted ---


VIT = {"data__mode": "images", "model__backbone": "vit_tiny_patch16_224", "data__pairs_per_step": 32}
"""mostly activations, and no convolution but the first: on a CPU they take scratch memory, as much as their weights"""


@pytest.mark.parametrize("changes", [{}, VIT], ids=["head", "images"])
def test_the_memory_is_that_of_a_step_which_computes(toy_data, changes):
    config = small(model__d_model=96, **changes)
    trace = trace_step(config, data=toy_data, device=CPU)
    trainer = Trainer(config, data=toy_data, device=CPU)
    trainer.model.train()
    batch = trainer.stream.batch(0, range(config.data.pairs_per_step))
    trainer.train_step([batch])  # makes the optimizer's state
    with profile(profile_memory=True) as measured:
        trainer.train_step([batch])
    now = most = 0
    for event in measured.profiler.kineto_results.events():
        now += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, now)
    # Not all: the kernels' own scratch memory, and on a CPU the batch, which is there already.
    assert trace.peak - trace.resident == pytest.approx(most, rel=0.05)


def test_the_arithmetic_is_that_of_the_products_and_convolutions():
    def flops(run: Callable[[], Tensor]) -> int:
        recorder = Recorder(CPU, stage="x")
        with recorder:
            run().sum().backward()
        return sum(kernel.flops for kernel in recorder.kernels)

    a, b = (torch.zeros(4, 6, requires_grad=True) for _ in range(2))
    assert flops(lambda: a @ b.T) == 3 * 2 * 4 * 4 * 6
    net = torch.nn.Conv2d(8, 8, 3, groups=4, padding=1)
    image = torch.zeros(2, 8, 5, 5, requires_grad=True)
    assert flops(lambda: net(image)) == 3 * 2 * 2 * 8 * 25 * 2 * 9


def test_traffic_and_launches_of_single_operations():
    recorder = Recorder(CPU, stage="x")
    a, many = torch.zeros(1000), [torch.zeros(1000) for _ in range(70)]
    with recorder:
        a.view(10, 100).T[:5]  # no kernel
        a + torch.zeros(1).expand(1000)
        a.fill_(1.0)
        a.mul_(2.0)
        torch._foreach_mul_(many, 2.0)
        torch._foreach_add_(many, many)
    found = [(k.name, k.bytes, k.launches) for k in recorder.kernels if k.name != "zeros"]
    assert found == [
        ("add", 4 * 2001, 1),
        ("fill_", 4000, 1),
        ("mul_", 8000, 1),
        ("_foreach_mul_", 70 * 8000, 1),
        ("_foreach_add_", 70 * 12000, 2),
    ]


def test_the_second_part_of_a_step_finds_the_gradients_of_the_first(toy_data):
    whole, parts = (trace_step(small(**QUICK, train__micro_batch=size), data=toy_data) for size in (0, 2))
    assert parts.resident == whole.resident
    assert parts.peaks["head forward"] > parts.resident
    assert sum(k.stage == "backward" for k in parts.kernels) > sum(k.stage == "backward" for k in whole.kernels)

"""Which device a rank takes, in which precision, on how many threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nmt.config import Config, with_overrides
from nmt.device import SMALL_HEAD, autocast, limit_threads, one_thread, pick_device


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_without_a_gpu_the_cpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device() == torch.device("cpu")


@pytest.mark.parametrize(("local_rank", "index"), [("0", 0), ("1", 1), ("5", 1), (None, 0)])
def test_ranks_of_a_host_share_its_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, local_rank: str | None, index: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert pick_device() == torch.device("cuda", index)


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("fp32", "cpu", torch.float32),
        ("bf16", "cpu", torch.bfloat16),
    ],
)
def test_a_product_is_computed_in_the_precision_asked_for(precision: str, device: str, expected: torch.dtype) -> None:
    x = torch.ones(2, 2)
    with autocast(precision, torch.device(device)):
        assert (x @ x).dtype == expected
    assert (x @ x).dtype == torch.float32


def test_on_a_gpu_the_default_precision_is_bf16(monkeypatch: pytest.MonkeyPatch, cuda_settings: None) -> None:
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    for precision, enabled in (("auto", True), ("bf16", True), ("fp32", False)):
        context = autocast(precision, torch.device("cuda"))
        assert (context.device, context.fast_dtype, context._enabled) == ("cuda", torch.bfloat16, enabled)


@pytest.fixture
def cuda_settings() -> Iterator[None]:
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    convolutions, benchmark = cudnn.allow_tf32, cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(before)
    cudnn.allow_tf32, cudnn.benchmark = convolutions, benchmark


def products_on_cuda() -> tuple[str, bool]:
    """How float32 is multiplied there; torch.compile reads the first of both settings."""
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cuda.matmul.allow_tf32


def test_float32_on_a_gpu_is_ieee_throughout_unless_tf32_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, cuda_settings: None
) -> None:
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    # A process of a search trains one trial after another, so each sets it anew.
    for precision, tf32 in (("tf32", True), ("fp32", False), ("tf32", True), ("auto", False)):
        context = autocast(precision, torch.device("cuda"))
        assert products_on_cuda() == ("tf32" if tf32 else "ieee", tf32)
        assert torch.backends.cudnn.allow_tf32 == tf32 and torch.backends.cudnn.benchmark
        assert context._enabled == (precision == "auto")


def test_a_model_on_the_cpu_changes_no_setting_of_the_gpu(cuda_settings: None) -> None:
    before, torch.backends.cudnn.benchmark = products_on_cuda(), False
    autocast("tf32", torch.device("cpu"))
    assert not torch.backends.cudnn.benchmark and products_on_cuda() == before


@pytest.mark.parametrize(
    ("mode", "width", "expected"),
    [("features", SMALL_HEAD, 1), ("features", SMALL_HEAD + 1, 2), ("images", SMALL_HEAD, 2)],
)
def test_only_a_small_head_on_features_is_held_to_one_thread(mode: str, width: int, expected: int) -> None:
    changes = {"data.mode": mode, "model.d_model": width, "model.heads": 1}
    limit_threads(with_overrides(Config(), changes, source="test"))
    assert torch.get_num_threads() == expected


@pytest.mark.parametrize("wanted", [True, False])
def test_one_thread_inside_and_as_many_as_before_outside(wanted: bool) -> None:
    with pytest.raises(KeyError), one_thread(wanted):
        assert torch.get_num_threads() == (1 if wanted else 2)
        raise KeyError
    assert torch.get_num_threads() == 2

"""Tensors on a GPU that is not there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.training.fake_cuda import CUDA, _Saved, fake_cuda
from nmt.training.step_trace import Recorder


def rows(*shape: int, **options: object) -> Tensor:
    return torch.zeros(*shape, device=CUDA, requires_grad=True, **options)


def test_autocast_has_the_lists_of_cuda():
    with fake_cuda(), torch.autocast("cuda", dtype=torch.bfloat16):
        product = rows(4, 8) @ rows(8, 8)
        assert product.device == CUDA and product.dtype == torch.bfloat16
        assert F.gelu(product).dtype == torch.bfloat16
        assert {F.layer_norm(product, (8,)).dtype, product.softmax(1).dtype, F.normalize(product).dtype} == {
            torch.float32
        }


@pytest.mark.parametrize(
    ("width", "dtype", "mask", "kernel"),
    [
        (32, torch.bfloat16, None, "_scaled_dot_product_flash_attention"),
        (32, torch.float32, None, "_scaled_dot_product_efficient_attention"),
        (32, torch.bfloat16, torch.bfloat16, "_scaled_dot_product_efficient_attention"),
        (32, torch.bfloat16, torch.bool, "_scaled_dot_product_efficient_attention"),
        (54, torch.bfloat16, None, "bmm"),  # 108 bytes a row are no multiple of 16
    ],
)
def test_attention_takes_the_kernel_that_cuda_takes(width, dtype, mask, kernel):
    with fake_cuda():
        recorder = Recorder(CUDA, stage="attention")
        with recorder:
            given = [rows(2, 3, 16, width, dtype=dtype) for _ in range(3)]
            added = None if mask is None else torch.zeros(3, 16, 16, dtype=mask, device=CUDA)
            mixed = F.scaled_dot_product_attention(*given, attn_mask=added)
            assert mixed.shape == (2, 3, 16, width) and mixed.dtype == dtype
            mixed.sum().backward()
        assert [t.grad is not None and t.grad.shape == t.shape for t in given] == [True] * 3
    assert kernel in {k.name for k in recorder.kernels if k.flops}


def test_the_backward_pass_gives_the_gradients_of_torchs_engine():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 4))
    shared = nn.Parameter(torch.randn(4))

    def loss() -> Tensor:
        y = net(torch.linspace(-1, 1, 18).view(3, 6)) * shared
        top, index = (y + shared.double()).sort(1)  # a leaf of two uses, another type, an output without gradient
        return (top[:, 1:].sum() + y[index > 1].exp().mean()) * 0.5

    leaves = [*net.parameters(), shared]
    theirs = torch.autograd.grad(loss(), leaves)
    saved = _Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
        value = loss()
    saved.backward(value)
    for leaf, gradient in zip(leaves, theirs, strict=True):
        torch.testing.assert_close(leaf.grad, gradient)


def test_torch_is_as_before_afterwards():
    before = F.scaled_dot_product_attention, Tensor.backward, torch.cuda.is_bf16_supported
    with pytest.raises(RuntimeError, match="stop"), fake_cuda():
        assert F.scaled_dot_product_attention is not before[0]
        raise RuntimeError("stop")
    assert before == (F.scaled_dot_product_attention, Tensor.backward, torch.cuda.is_bf16_supported)

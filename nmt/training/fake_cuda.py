"""Run code on a GPU that is not there: tensors have a device, a shape and a type, and nothing is computed.

torch's fake tensors do most of it: they take the kernels' shapes, and autocast's lists are those of CUDA. Three things
they leave to a real GPU, and `fake_cuda` adds them: whether autocast may be on, which attention kernel is chosen, and
the order of the backward pass, whose engine asks the driver for its streams. The nodes of that pass are torch's own.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda", 0)


@contextlib.contextmanager
def fake_cuda() -> Iterator[None]:
    """Make every tensor of this context a fake one; `CUDA` is then a device, whether there is a GPU or not.

    It replaces functions of torch, so nothing else may compute in this process meanwhile.
    """
    saved = _Saved()
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
            (F, "scaled_dot_product_attention", _attention(F.scaled_dot_product_attention)),
            (Tensor, "backward", lambda *given, **named: saved.backward(*given, **named)),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # a copy of a module
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack))
        yield


def _attention(composite: Any) -> Any:
    """Return `scaled_dot_product_attention` with the choice of a kernel that torch makes on CUDA.

    Flash attention takes no mask. Both fused kernels want rows of a multiple of 16 bytes; what fits neither is computed
    step by step.
    """

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        q, k, v, mask = (_cast(tensor) for tensor in (query, key, value, attn_mask))
        fits = q.dim() == 4 and all((t.shape[-1] * t.element_size()) % 16 == 0 for t in (q, k, v))
        if q.device.type != "cuda" or not fits or enable_gqa:
            return composite(q, k, v, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if mask is None and q.element_size() == 2:
            return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal, scale=scale)[0]
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask.logical_not(), -torch.inf)
        if mask is not None:
            mask = mask.expand(*q.shape[:2], q.shape[-2], k.shape[-2])
        learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (q, k, v, mask))
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(q, k, v, mask, learns, dropout_p, is_causal, scale=scale)[0]

    return attention


def _cast(tensor: Any) -> Any:
    """Return a tensor of numbers in the type of autocast, if it is on."""
    if tensor is None or not tensor.is_floating_point() or not torch.is_autocast_enabled("cuda"):
        return tensor
    return tensor.to(torch.get_autocast_dtype("cuda"))


class _Slot:
    """A tensor that a node of the backward pass has saved, until the node has run."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor


class _Saved:
    """Backward passes in the order of torch's engine, which let go of what each node has saved once it has run."""

    def __init__(self) -> None:
        self._read: list[_Slot] = []

    def pack(self, tensor: Tensor) -> _Slot:
        return _Slot(tensor)

    def unpack(self, slot: _Slot) -> Tensor:
        assert slot.tensor is not None, "a second backward pass through one graph"
        self._read.append(slot)
        return slot.tensor

    @torch.no_grad()
    def backward(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        """Add the gradients of a scalar to its leaves, as `Tensor.backward`."""
        root: Any = loss.grad_fn
        missing = _edges_into(root)
        gradients: dict[Any, list[Tensor | None]] = {root: [torch.ones_like(loss) if gradient is None else gradient]}
        order = itertools.count()
        ready = [(0, next(order), root)]  # the node made last comes first
        while ready:
            _, _, node = heapq.heappop(ready)
            given = gradients.pop(node, None) or [None] * len(node._input_metadata)
            if hasattr(node, "variable"):
                _accumulate(node.variable, given[0])
                continue
            found = node(*given)
            while self._read:
                self._read.pop().tensor = None
            for after in _passed_on(node, found, gradients):
                missing[after] -= 1
                if not missing[after]:
                    heapq.heappush(ready, (-after._sequence_nr(), next(order), after))
            del given, found  # else they would live until the next node has run


def _passed_on(node: Any, found: Any, gradients: dict[Any, list[Tensor | None]]) -> Iterator[Any]:
    """Add what a node has found to the gradients of the nodes after it; yield those, once an edge."""
    parts = found if isinstance(found, tuple) else (found,)
    for (after, place), part in zip(node.next_functions, parts, strict=False):
        if after is None:
            continue
        if part is not None:
            sums = gradients.setdefault(after, [None] * len(after._input_metadata))
            fitting, there = _fitting(part, after._input_metadata[place]), sums[place]
            sums[place] = fitting if there is None else there + fitting
        yield after


def _edges_into(root: Any) -> Counter[Any]:
    """Count the edges that lead to each node of the backward pass."""
    counts: Counter[Any] = Counter()
    waiting = deque([root])
    while waiting:
        for after, _ in waiting.popleft().next_functions:
            if after is not None:
                counts[after] += 1
                if counts[after] == 1:
                    waiting.append(after)
    return counts


def _fitting(gradient: Tensor, wanted: Any) -> Tensor:
    """Return the gradient in the shape and type of the tensor that it belongs to, as the engine does."""
    if tuple(gradient.shape) != tuple(wanted.shape):
        gradient = gradient.sum_to_size(wanted.shape)
    return gradient if gradient.dtype == wanted.dtype else gradient.to(wanted.dtype)


def _accumulate(leaf: Tensor, gradient: Tensor | None) -> None:
    """Add a gradient to that of a leaf, which takes the first one as it is where its layout allows."""
    if gradient is None:
        return
    if leaf.grad is not None:
        leaf.grad.add_(gradient)
    elif gradient.stride() == leaf.stride():
        leaf.grad = gradient.detach()
    else:
        leaf.grad = torch.empty_like(leaf).copy_(gradient)

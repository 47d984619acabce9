"""Data-parallel training: rank and size of the process group, averaged gradients, sums over ranks.

No other module uses torch.distributed. Without a process group, every function acts as a group of one. Tensors on the
CPU are exchanged too, so a group on GPUs needs both backends, `BACKENDS`.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

BACKENDS = "cpu:gloo,cuda:nccl"
T = TypeVar("T")


def rank() -> int:
    """Return this process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of workers that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def data_parallel(model: nn.Module, device: torch.device, *, compression: str = "none") -> nn.Module:
    """Wrap `model` so that backward averages its gradients over the ranks; a single worker gets `model` itself.

    Args:
        model: the model; parameters that need no gradient are left out.
        device: this rank's.
        compression: number format in which gradients travel: "none", their own, or "bf16", half of it.
    """
    if world_size() == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    # Not static_graph: its first step sends nothing unless forward returns plain tensors, and the ranks then differ.
    wrapped = nn.parallel.DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
    if compression == "bf16":
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

        wrapped.register_comm_hook(None, bf16_compress_hook)
    return wrapped


def gradients(model: nn.Module, *, averaged: bool) -> contextlib.AbstractContextManager[None]:
    """Make the context of a forward and backward pass.

    Args:
        model: result of `data_parallel`.
        averaged: average the gradients over the ranks at the end of backward. Parts of a step before the last only add
            to them, for averaging each part would exchange all gradients again.
    """
    if averaged or not isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum `values` over all ranks, in place, and return it."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def largest(*values: int) -> list[int]:
    """Return the largest of each value over the ranks. Waits for the other processes, but not for their GPUs (gloo)."""
    if world_size() == 1:
        return list(values)
    shared = torch.tensor(values)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    found: list[int] = shared.tolist()
    return found


def from_first(value: T) -> T:
    """Return rank 0's `value` on every rank; a plain value that pickle knows."""
    shared: list[Any] = [value]
    if world_size() > 1:
        dist.broadcast_object_list(shared)
    result: T = shared[0]
    return result


def trainers(device: torch.device) -> list[dict[str, Any]]:
    """Collect {"rank", "host", "device"} of each worker, by rank, on every rank; empty without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return []
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, {"rank": rank(), "host": socket.gethostname(), "device": str(device)})
    return found


def barrier() -> None:
    """Wait for every rank."""
    if world_size() > 1:
        dist.barrier()

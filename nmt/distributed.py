"""The only user of torch.distributed: rank and size of the process group, gradients averaged, counts summed.

Tensors on the CPU are exchanged too, so a group on GPUs needs both backends, `BACKENDS`.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

BACKENDS = "cpu:gloo,cuda:nccl"


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with its gradients averaged over the ranks (DistributedDataParallel), or itself when alone."""
    if world_size() == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices)


def gradients(model: nn.Module, *, averaged: bool) -> contextlib.AbstractContextManager[None]:
    """Around a forward and its backward: whether they end with the gradients averaged over the ranks."""
    if averaged or not isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of `values` over all ranks."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def largest(value: int) -> int:
    """The largest `value` of any rank; waits for the other processes, not for their GPUs."""
    if world_size() == 1:
        return value
    shared = torch.tensor(value)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared)


def trainers(device: torch.device) -> list[dict[str, Any]]:
    """{"rank", "host", "device"} of each process, by rank, on every rank; empty without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return []
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, {"rank": rank(), "host": socket.gethostname(), "device": str(device)})
    return found


def barrier() -> None:
    """Wait for every rank."""
    if world_size() > 1:
        dist.barrier()

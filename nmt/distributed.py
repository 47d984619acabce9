"""The only user of torch.distributed: rank and size of the process group, gradients averaged, counts summed."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


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


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of `values` over all ranks."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def barrier() -> None:
    """Wait for every rank."""
    if world_size() > 1:
        dist.barrier()

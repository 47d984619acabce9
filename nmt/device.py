"""TODO docstring of nmt.device."""

from __future__ import annotations

import os

import torch

from nmt import distributed
from nmt.config import Config

SMALL_HEAD = 256
"""Width up to which one CPU thread trains a head on features about as fast as two."""


def pick_device() -> torch.device:
    """This rank's GPU when there is one, else the CPU. LOCAL_RANK is set by torchrun and Ray Train."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", distributed.rank()))
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bf16 where asked ("auto": on CUDA), else fp32."""
    bf16 = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def limit_threads(config: Config) -> None:
    """One CPU thread for a small head on features, where a second gains a fifth at best.

    Threads that meet hundreds of times a step lose far more: 30 times slower as soon as another process holds a core.
    """
    if config.data.mode == "features" and config.model.d_model <= SMALL_HEAD:
        torch.set_num_threads(1)

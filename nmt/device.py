"""Device, precision and CPU threads of a process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from nmt import distributed
from nmt.config import Config

SMALL_HEAD = 256
"""largest `model.d_model` for which one CPU thread trains a head on features about as fast as two"""


def pick_device() -> torch.device:
    """Return this rank's GPU if the machine has one, else the CPU.

    torchrun and Ray Train set LOCAL_RANK, the number of the process on its machine.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", distributed.rank()))
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Make the autocast context of a forward pass; on CUDA, also set how this process multiplies float32 there.

    Convolutions take the fastest of cuDNN's algorithms, tried once for each shape.

    Args:
        precision: "fp32"; "tf32", float32 of which products on CUDA read 10 bits of the mantissa; "bf16"; or "auto"
            (bf16 on CUDA, else fp32).
        device: device of the model.
    """
    if device.type == "cuda":
        # torch's own default is tf32 for convolutions alone: "fp32" would not be fp32 throughout. The newer settings,
        # fp32_precision, make torch.compile fail, which reads these (pytorch #166387).
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True
    bf16 = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def limit_threads(config: Config) -> None:
    """Limit torch to one CPU thread where a small head trains on features.

    A second thread gains a fifth at best. The threads meet hundreds of times a step, and as soon as another process
    holds a core, each meeting waits for it: measured, a step became 30 times slower.
    """
    if config.data.mode == "features" and config.model.d_model <= SMALL_HEAD:
        torch.set_num_threads(1)


@contextlib.contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Compute with one CPU thread of torch inside this context, if `wanted`; then with as many as before.

    Threads of a small net meet more often than they work. Measured on two cores that other processes held: a pair of
    images took 5 to 20 times longer with two threads than with one.
    """
    before = torch.get_num_threads()
    if not wanted or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

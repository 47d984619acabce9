"""Load the training batches of one rank: in loader processes for images, in this process for features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.utils.data

from nmt.batch import PairBatch
from nmt.data.stream.pairs import PairStream
from nmt.errors import UserError


@dataclass(frozen=True)
class _Steps(torch.utils.data.Dataset[list[PairBatch]]):
    """Batches of one rank in one epoch, by step from `first_step`, each in parts of `micro_batch` pairs."""

    stream: PairStream
    epoch: int
    first_step: int
    num_steps: int
    pairs_per_step: int
    rank: int
    world_size: int
    micro_batch: int

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, k: int) -> list[PairBatch]:
        first = (self.first_step + k) * self.pairs_per_step
        indices = range(first + self.rank, first + self.pairs_per_step, self.world_size)
        size = self.micro_batch or len(indices)
        return [self.stream.batch(self.epoch, indices[i : i + size]) for i in range(0, len(indices), size)]


def train_batches(
    stream: PairStream,
    *,
    epoch: int,
    first_step: int,
    num_steps: int,
    pairs_per_step: int,
    rank: int = 0,
    world_size: int = 1,
    micro_batch: int = 0,
    loader_processes: int = 0,
) -> Iterator[list[PairBatch]]:
    """Yield the batches of steps first_step, first_step + 1, ... of an epoch for one rank, each as a list of parts.

    Step s takes the pair indices from s * pairs_per_step on, and rank r every world_size-th of them from the r-th.
    Where world_size does not divide, some ranks have one more. The pairs do not depend on the number of loader
    processes.
    Images come in pinned memory where there is CUDA, so that copying them to the GPU does not delay the step.

    Args:
        num_steps: number of batches.
        pairs_per_step: over all ranks; at least world_size.
        micro_batch: most pairs of a part; 0: a step is one part.
        loader_processes: in images mode; 0: load in this process. Stored features are read in this process in any case,
            which is faster than passing them between processes.
    """
    assert pairs_per_step >= world_size, (
        f"pairs_per_step={pairs_per_step}, world_size={world_size}: a rank has no pairs"
    )
    steps = _Steps(stream, epoch, first_step, num_steps, pairs_per_step, rank, world_size, micro_batch)
    if loader_processes == 0 or stream.features is not None:
        return (steps[k] for k in range(num_steps))
    loader = torch.utils.data.DataLoader(
        _WithErrors(steps),
        batch_size=None,
        shuffle=False,
        num_workers=loader_processes,
        pin_memory=torch.cuda.is_available(),
    )
    return _raised(iter(loader))


class _WithErrors(torch.utils.data.Dataset[list[PairBatch] | UserError]):
    """Returns a UserError in place of the batch: raised in a loader process, torch would put a traceback into its text.

    Args:
        steps: the batches.
    """

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, k: int) -> list[PairBatch] | UserError:
        try:
            return self._steps[k]
        except UserError as error:
            return error


def _raised(batches: Iterator[list[PairBatch] | UserError]) -> Iterator[list[PairBatch]]:
    """Yield the batches up to the first error, which is raised here."""
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch

"""Training batches of one rank: in worker processes for images, in this process for features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.utils.data

from nmt.batch import PairBatch
from nmt.data.stream.pairs import PairStream


@dataclass(frozen=True)
class _Steps(torch.utils.data.Dataset[list[PairBatch]]):
    """The batches of one rank in one epoch, by step from `first_step`, each in parts of `micro_batch` pairs."""

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
    workers: int = 0,
) -> Iterator[list[PairBatch]]:
    """The batches of steps first_step, first_step + 1, ... of an epoch for one rank, each as a list of its parts.

    Step s takes the indices from s * pairs_per_step on, rank r every world_size-th of them from the r-th: some ranks
    have one more than others where world_size does not divide. The pairs do not depend on `workers`.

    Images come from pinned memory where there is CUDA, so that their way to the GPU does not hold up the step.

    Args:
        num_steps: how many batches.
        pairs_per_step: over all ranks; at least world_size.
        micro_batch: pairs of a part at most (0: a step is one part).
        workers: loader processes in images mode (0: none); features are read faster than they could be passed over.
    """
    assert pairs_per_step >= world_size, (
        f"pairs_per_step={pairs_per_step}, world_size={world_size}: a rank has no pairs"
    )
    steps = _Steps(stream, epoch, first_step, num_steps, pairs_per_step, rank, world_size, micro_batch)
    if workers == 0 or stream.features is not None:
        return (steps[k] for k in range(num_steps))
    loader = torch.utils.data.DataLoader(
        steps, batch_size=None, shuffle=False, num_workers=workers, pin_memory=torch.cuda.is_available()
    )
    return iter(loader)

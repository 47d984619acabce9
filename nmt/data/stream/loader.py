"""Load the training batches of one rank: in loader processes for images, in this process for features."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import torch.utils.data

from nmt.batch import PairBatch
from nmt.data.stream.pairs import PairStream
from nmt.errors import UserError

_Position = tuple[int, int]
"""(epoch, step within it)"""


@dataclass(frozen=True, kw_only=True)
class Steps(torch.utils.data.Dataset[list[PairBatch]]):
    """Batches of one rank by (epoch, step), each in parts of `micro_batch` pairs.

    Step s of an epoch takes the pair indices from s * pairs_per_step on, and rank r every world_size-th of them from
    the r-th. Where world_size does not divide, some ranks have one more.
    """

    stream: PairStream
    steps_per_epoch: int
    pairs_per_step: int
    """over all ranks; at least world_size"""
    rank: int = 0
    world_size: int = 1
    micro_batch: int = 0
    """most pairs of a part; 0: a step is one part"""

    def __post_init__(self) -> None:
        assert self.pairs_per_step >= self.world_size, (
            f"pairs_per_step={self.pairs_per_step}, world_size={self.world_size}: a rank has no pairs"
        )

    def __getitem__(self, position: _Position) -> list[PairBatch]:
        epoch, step = position
        first = step * self.pairs_per_step
        indices = range(first + self.rank, first + self.pairs_per_step, self.world_size)
        size = self.micro_batch or len(indices)
        return [self.stream.batch(epoch, indices[i : i + size]) for i in range(0, len(indices), size)]


class TrainLoader:
    """Training batches, from processes that live over all epochs and load on while an epoch is evaluated.

    The pairs do not depend on the number of processes, nor on where they began.
    Images come in pinned memory where there is CUDA, so that copying them to the GPU does not delay the step.

    Args:
        steps: the batches.
        epochs: epochs of the whole training; nothing is loaded beyond them.
        processes: in images mode; 0: load in this process. Stored features are read in this process in any case, which
            is faster than passing them between processes.
    """

    def __init__(self, steps: Steps, *, epochs: int, processes: int = 0) -> None:
        self._steps, self._epochs = steps, epochs
        self._processes = 0 if steps.stream.features is not None else processes
        self._batches: Iterator[list[PairBatch] | UserError] | None = None
        self._next: _Position = (0, 0)
        """position of the next of `_batches`"""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[PairBatch]]:
        """Yield the batches of an epoch from `first_step` on, each as a list of parts.

        Raises:
            UserError: no pair can be drawn.
        """
        for step in range(first_step, self._steps.steps_per_epoch):
            yield self._load(epoch, step)

    def close(self) -> None:
        """End the loader processes. The next batch starts them again."""
        self._batches = None  # nobody else holds it, and it ends its processes as it goes

    def _load(self, epoch: int, step: int) -> list[PairBatch]:
        if self._processes == 0:
            return self._steps[epoch, step]
        if self._batches is None or self._next != (epoch, step):
            self.close()
            self._batches = iter(self._start(epoch, step))
        batch = next(self._batches)
        self._next = (epoch, step + 1) if step + 1 < self._steps.steps_per_epoch else (epoch + 1, 0)
        if isinstance(batch, UserError):
            self.close()
            raise batch
        return batch

    def _start(self, epoch: int, first_step: int) -> torch.utils.data.DataLoader[list[PairBatch] | UserError]:
        rest = ((epoch, step) for step in range(first_step, self._steps.steps_per_epoch))
        later = itertools.product(range(epoch + 1, self._epochs), range(self._steps.steps_per_epoch))
        return torch.utils.data.DataLoader(
            _WithErrors(self._steps),
            batch_size=None,
            sampler=itertools.chain(rest, later),
            num_workers=self._processes,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_ignore_signals,
        )


def _ignore_signals(worker: int) -> None:
    """Leave a terminal's signals, which all its processes get, to the training. It ends this process."""
    for name in ("SIGINT", "SIGHUP"):
        with contextlib.suppress(AttributeError):  # not on this system
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class _WithErrors(torch.utils.data.Dataset[list[PairBatch] | UserError]):
    """Returns a UserError in place of the batch: raised in a loader process, torch would put a traceback into its text.

    Args:
        steps: the batches.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __getitem__(self, position: _Position) -> list[PairBatch] | UserError:
        try:
            return self._steps[position]
        except UserError as error:
            return error

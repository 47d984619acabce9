"""Whether a training fits the memory of a GPU, and with how many pairs at once (`train.micro_batch`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nmt.config import Config, with_overrides
from nmt.errors import one_line
from nmt.training.cards import CONTEXT, Card, this_card
from nmt.training.out_of_memory import half, pairs_at_once
from nmt.training.sizes import in_bytes
from nmt.training.step_trace import trace_step


@dataclass(frozen=True)
class Fit:
    """The memory that a training needs on a GPU."""

    pairs: int
    """at once, as configured"""
    needed: float
    """bytes, with what CUDA takes"""
    card: Card | None
    """None: no card is known to compare with"""
    smaller: int | None = None
    """pairs at once that fit, where those configured do not; None also where not even one pair does"""

    @property
    def fits(self) -> bool:
        """True where nothing speaks against the configured pairs at once."""
        return self.card is None or self.needed <= self.card.usable + CONTEXT

    def __str__(self) -> str:
        pairs = "one pair" if self.pairs == 1 else f"{self.pairs} pairs"
        need = f"a step needs about {in_bytes(self.needed)} of GPU memory with {pairs} at once"
        if self.card is None:
            return need
        need += f", of the {in_bytes(self.card.memory)} of {self.card.name}"
        if self.fits:
            return need
        if self.smaller is None:
            return f"{need}: not enough, not even with one pair; choose a smaller model or data.image_size"
        return f"{need}: not enough; set train.micro_batch={self.smaller} (the result is the same)"


def fit(config: Config, *, data: Path, card: Card | None, workers: int = 1) -> Fit:
    """Trace a step and compare the memory that it needs with a GPU's; see `trace_step`.

    Where it does not fit, the pairs at once are halved as after running out of memory, until they do. Two traces give
    the memory of a pair, and so that of any number.

    Args:
        workers: number of data-parallel workers, which share the pairs of a step.

    Raises:
        UserError, HiddenWaitError: see `trace_step`.
    """
    pairs = pairs_at_once(config, workers=workers)
    needed = _needed(config, pairs, data, workers)
    found = Fit(pairs, needed, card)
    if found.fits or card is None or pairs == 1:
        return found
    fewer = half(pairs)
    needed_by_fewer = _needed(config, fewer, data, workers)
    each = (needed - needed_by_fewer) / (pairs - fewer)

    def fits(number: int) -> bool:
        return needed_by_fewer - (fewer - number) * each <= card.usable + CONTEXT

    smaller = fewer
    while smaller > 1 and not fits(smaller):
        smaller = half(smaller)
    return Fit(pairs, needed, card, smaller if fits(smaller) else None)


def fit_line(config: Config, *, data: Path, card: Card | None, workers: int = 1) -> str | None:
    """Return the line of a preview on the memory of a GPU; None without a GPU to compare with.

    A preview is never refused for it: where the step cannot be traced, the line says why.

    Args:
        card: the GPU; by default that of this machine.
    """
    card = card or this_card()
    if card is None:
        return None
    try:
        return str(fit(config, data=data, card=card, workers=workers))
    except Exception as error:  # whatever a model of the user's does that fake tensors cannot
        return f"the memory of a step is not known: it cannot be traced ({one_line(error)})"


def _needed(config: Config, pairs: int, data: Path, workers: int) -> float:
    """Trace the memory of a worker's step with this many pairs at once."""
    share = -(-config.data.pairs_per_step // workers)  # rounded up
    keys = {"data.pairs_per_step": share, "train.micro_batch": pairs if pairs < share else 0}
    return CONTEXT + trace_step(with_overrides(config, keys, source="memory"), data=data).peak

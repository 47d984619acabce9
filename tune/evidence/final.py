"""The end of `--confirm --final`: winner and default trained on train and val together, then tested.

The published protocol trains on all of train, but a search and a confirmation need val to choose by. Once the winner is
known, nothing is left to choose. So the winner and the default train again with the same seeds on train and val. The
test split is read for these alone, after the last of them has ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import with_overrides
from nmt.data.store.ready import ReadyData
from nmt.errors import UserError
from nmt.training.files import BEST
from tune.evidence.repeated import Repeated, Repetition, Variant, repeated_from_dict
from tune.results.layout import FINAL
from tune.results.log import log
from tune.results.statistics import CONFIDENCE, Difference
from tune.results.table import percent, points

TRAIN_SPLIT = {"data.train_split": "train+val"}


@dataclass(frozen=True, kw_only=True)
class Final:
    """The trainings of a winner and the default on train and val, with what the test split says of them."""

    winner: Repeated
    default: Repeated
    confidence: float = CONFIDENCE
    """of the interval: that of the confirmation"""

    @property
    def unfinished(self) -> bool:
        """True if the same command has trainings to train again; the test split is not read before."""
        return any(run.again for repeated in (self.winner, self.default) for run in repeated.runs)

    @property
    def difference(self) -> Difference | None:
        """The winner's difference to the default on the test split, paired by seed; None until it has been read."""
        return self.winner.above(self.default, of="test_accuracy", confidence=self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        difference = self.difference
        return {
            "train_split": TRAIN_SPLIT["data.train_split"],
            "confidence": self.confidence,
            "winner": self.winner.to_dict(),
            "default": self.default.to_dict(),
            "test_difference": difference.to_dict() if difference else None,
        }


def final_from_dict(content: Mapping[str, Any]) -> Final:
    """Decode what `Final.to_dict` returned. Raises KeyError or TypeError if it is something else."""
    return Final(
        winner=repeated_from_dict(content["winner"]),
        default=repeated_from_dict(content["default"]),
        confidence=content.get("confidence", CONFIDENCE),  # not in the file of an earlier version
    )


def check_final(ready: ReadyData, *, asked: bool) -> None:
    """Raise UserError where final trainings are asked for but no test split would measure them."""
    if asked and not ready.has_test:
        raise UserError(f"--final: {ready.given} has no test split, so nothing would measure the final trainings")


def train_final(
    confirmation: Repetition,
    chosen: Sequence[tuple[Variant, Repeated]],
    seeds: Sequence[int],
    *,
    confidence: float = CONFIDENCE,
) -> Final:
    """Train the winner and the default on train and val, then read the test split for them, within `in_ray`.

    Writes to the folder `final` of the confirmation. Finished trainings are kept, interrupted ones resume.

    Args:
        confirmation: the repetition that has found the winner.
        chosen: the winner and the default: as they were trained, and the results.
        seeds: the seeds of the confirmation.
        confidence: of the interval on the test split.

    Raises:
        UserError: the folder holds other trainings, or the test split cannot be read.
        KeyboardInterrupt: interrupted; every training has its checkpoint.
    """
    repetition = dataclasses.replace(confirmation, directory=confirmation.directory / FINAL, decode_grid=())
    variants = [_on_both(variant, repeated) for variant, repeated in chosen]
    repetition.check(variants, seeds)
    log.info(f"final trainings of {variants[0].name} and the default on train and val together, with the same seeds")
    winner, default = repetition.train(variants, seeds)
    final = Final(winner=winner, default=default, confidence=confidence)
    if final.unfinished:
        return final
    log.info(
        f"reading the test split for the final trainings of {winner.name} and the default: report these numbers, do "
        "not choose by them"
    )
    return dataclasses.replace(final, winner=repetition.read_test(winner), default=repetition.read_test(default))


def _on_both(variant: Variant, repeated: Repeated) -> Variant:
    """Return the variant on train and val. A seed decodes as its training on train did best on val."""
    decode = {
        run.seed: dataclasses.replace(variant.config.decode, **run.decode)
        for run in repeated.runs
        if run.reason is None
    }
    config = with_overrides(variant.config, TRAIN_SPLIT, source="--final")
    return dataclasses.replace(variant, config=config, decode=decode)


def render_final(final: Final) -> str:
    """Return the lines of the report on the final trainings."""
    name, num = final.winner.name, len(final.winner.runs)
    head = f"Final trainings on train and val together, {num} seeds each, the last epoch's weights: "
    lines = [*final.winner.failures, *final.default.failures]
    if final.difference is None:
        why = "some are to be trained again" if final.unfinished else "fewer than two seeds of both have ended well"
        lines.insert(0, f"{head}the test split was not read, for {why}." if final.unfinished else f"{head}{why}.")
        return "\n".join(lines)
    finding = "above the default" if final.difference.low > 0 else "no gain that is proven"
    lines.insert(
        0,
        f"{head}test split (read for these): {name} {percent(final.winner.test_accuracy)}, default "
        f"{percent(final.default.test_accuracy)}, gain {points(final.difference)} points: {finding}. "
        "This is the published protocol.",
    )
    return "\n".join(lines)


def final_weights(final: Final, directory: Path) -> Path | None:
    """Return the weights of the winner's first final training that ended well, below the confirmation's directory."""
    ended = [run for run in final.winner.runs if run.reason is None]
    return directory / FINAL / ended[0].directory / BEST if ended else None

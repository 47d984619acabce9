"""The results of a confirmation: confirm.json, and the report that is printed from it."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nmt.commands import command
from nmt.errors import UserError
from nmt.io.table import aligned
from nmt.training.files import BEST
from nmt.training.history import METRIC
from tune.evidence.final import Final, final_from_dict, final_weights, render_final
from tune.evidence.looks import MIN_SEEDS, Look, confidence_at, look_at, look_from_dict, number_of
from tune.evidence.measures import measures_table
from tune.evidence.photograph_table import photograph_table
from tune.evidence.photographs import Spread, spreads_from_dict
from tune.evidence.repeated import Repeated, repeated_from_dict
from tune.results.commands import IMAGES, set_words, tensorboard
from tune.results.layout import RUNS
from tune.results.statistics import Difference, paired_differences
from tune.results.table import percent, points


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """The results of a confirmation: the content of confirm.json."""

    search: str
    data: str
    search_seed: int
    """the seed that every trial of the search trained with"""
    seeds: tuple[int, ...]
    epochs: int
    searched: dict[str, dict[str, Any]]
    """configuration -> its searched values"""
    search_accuracy: dict[str, float | None]
    """configuration -> the best val/accuracy of its trial"""
    swept: bool
    """True if every training tried several decodings"""
    default: Repeated
    candidates: tuple[Repeated, ...]
    has_test: bool = True
    """False: the data set has no test split to read"""
    final: Final | None = None
    """trainings on train and val together; None if they were not asked for, or there is no winner"""
    changed: dict[str, Any] = field(default_factory=dict)
    """configuration keys of --set, changed in every configuration alike"""
    val_keypoints: int = 0
    """keypoints that val/accuracy is computed over; 0 if that is not known"""
    looks: tuple[Look, ...] = ()
    """the looks at results so far, in their order; with this one once every training has ended"""
    photographs: dict[str, dict[str, Spread]] = field(default_factory=dict)
    """val, test or final -> configuration -> its standard errors over photographs"""
    measures: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    """val, test or final -> configuration -> measure -> values, one a seed; see tune/evidence/measures.py"""

    @property
    def unfinished(self) -> bool:
        """True if the same command has trainings to train again, so that the winner may still change."""
        return any(run.again for c in (self.default, *self.candidates) for run in c.runs)

    @property
    def trained(self) -> tuple[Repeated, ...]:
        """All trainings, the final ones included."""
        finals = (self.final.winner, self.final.default) if self.final else ()
        return self.default, *self.candidates, *finals

    @property
    def this_look(self) -> Look:
        """What the results are of."""
        return look_at(self.seeds, [c.name for c in self.candidates])

    @property
    def look(self) -> int:
        """The number of this look at the results, from 1."""
        return number_of(self.looks, self.this_look)

    @property
    def confidence(self) -> float:
        """The confidence of all intervals of the table together."""
        return confidence_at(self.look)

    @property
    def whole(self) -> list[Repeated]:
        """The candidates that finished every seed."""
        return [c for c in self.candidates if c.accuracy is not None and not c.failures]

    @property
    def accuracies(self) -> list[list[float]]:
        """The validation accuracies of each configuration over its seeds, for the noise that they measure."""
        every = (self.default, *self.candidates)
        return [[run.accuracy for run in one.runs if run.accuracy is not None] for one in every]

    @property
    def best(self) -> Repeated | None:
        """The candidate with the highest mean among those that finished every seed."""
        return max(self.whole, key=lambda c: c.accuracy.mean if c.accuracy else 0.0, default=None)

    @functools.cached_property
    def differences(self) -> dict[str, Difference]:
        """Candidate -> its difference to the default on validation; the intervals hold together."""
        found = self.to(self.default, self.whole)
        alone = 1 - (1 - self.confidence) / max(1, len(self.candidates))
        for candidate in self.candidates:
            difference = candidate.above(self.default, confidence=alone) if candidate.name not in found else None
            if difference is not None:
                found[candidate.name] = replace(difference, confidence=self.confidence)
        return found

    def to(self, reference: Repeated, others: Sequence[Repeated]) -> dict[str, Difference]:
        """Return the differences on validation of configurations that finished every seed, over those of `reference`.

        Their number counts as that of all candidates, so that a failed one makes no other look better.
        """
        its = {run.seed: run.accuracy for run in reference.runs if run.accuracy is not None}
        table = [[run.accuracy for run in c.runs if run.accuracy is not None and run.seed in its] for c in others]
        confidence = 1 - (1 - self.confidence) * len(others) / max(1, len(self.candidates))
        found = paired_differences(table, list(its.values()), confidence=confidence, keypoints=self.val_keypoints)
        differences = [replace(difference, confidence=self.confidence) for difference in found]
        return {c.name: difference for c, difference in zip(others, differences, strict=bool(found))}

    @functools.cached_property
    def winner(self) -> Repeated | None:
        """The best candidate whose whole interval lies above the default; None if there is none, or none yet."""
        if self.unfinished:
            return None
        above = [c for c in self.whole if self._proves(self.differences.get(c.name))]
        return max(above, key=lambda c: c.accuracy.mean if c.accuracy else 0.0, default=None)

    def _proves(self, difference: Difference | None) -> bool:
        return difference is not None and difference.low > 0 and difference.count >= MIN_SEEDS

    @property
    def test_difference(self) -> Difference | None:
        """The winner's difference to the default on the test split; None until it has been read."""
        if self.winner is None:
            return None
        return self.winner.above(self.default, of="test_accuracy", confidence=self.confidence)

    @property
    def gain(self) -> Difference | None:
        """The gain to report: on the test split, of the final trainings where there are some; None if it is unread."""
        return (self.final.difference if self.final else None) or self.test_difference

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "search": self.search,
            "data": self.data,
            "search_seed": self.search_seed,
            "seeds": list(self.seeds),
            "epochs": self.epochs,
            "searched": self.searched,
            "search_accuracy": self.search_accuracy,
            "swept": self.swept,
            "winner": self.winner.name if self.winner else None,
            "gain": _plain(self.gain),
            "test_difference": _plain(self.test_difference),
            "look": self.look,
            "confidence": self.confidence,
            "looks": [look.to_dict() for look in self.looks],
            "val_keypoints": self.val_keypoints,
            "has_test": self.has_test,
            "changed": self.changed,
            "photographs": {of: {c: asdict(s) for c, s in known.items()} for of, known in self.photographs.items()},
            "measures": self.measures,
            "final": self.final.to_dict() if self.final else None,
            "default": self.default.to_dict(),
            "candidates": [
                c.to_dict() | {"difference": _plain(self.differences.get(c.name)), "selected_on": "val"}
                for c in self.candidates
            ],
        }


def _plain(difference: Difference | None) -> dict[str, Any] | None:
    return difference.to_dict() if difference is not None else None


def load_confirmed(path: Path) -> Confirmed:
    """Read a confirm.json. Raises UserError if it is something else."""
    try:
        content = json.loads(path.read_text())
        default, candidates = content.pop("default"), content.pop("candidates")
        final = content.pop("final", None)  # not in the file of an earlier version
        del content["winner"], content["test_difference"]
        looks = content.pop("looks", None)
        for derived in ("gain", "look", "confidence"):
            content.pop(derived, None)
        content["seeds"] = tuple(content["seeds"])
        content["photographs"] = {of: spreads_from_dict(v) for of, v in content.pop("photographs", {}).items()}
        found = Confirmed(
            **content,
            default=repeated_from_dict(default),
            candidates=tuple(map(repeated_from_dict, candidates)),
            final=final_from_dict(final) if final else None,
            looks=tuple(map(look_from_dict, looks or ())),
        )
        # An earlier version kept no looks: its results were looked at once.
        return found if looks is not None or found.unfinished else replace(found, looks=(found.this_look,))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the file of a confirmation ({error})") from error


def render(confirmed: Confirmed, directory: Path) -> str:
    """Return the report: the table, the verdict on both splits, and the commands to run next."""
    final = render_final(confirmed.final) if confirmed.final else ""
    over_both = photograph_table(confirmed.default, confirmed.candidates, confirmed.final, confirmed.photographs)
    parts = [_head(confirmed), _table(confirmed), _verdict(confirmed), _test(confirmed), final, over_both]
    parts += [measures_table(confirmed.measures), _next(confirmed, directory)]
    return "\n\n".join(part for part in parts if part)


def _head(confirmed: Confirmed) -> str:
    num = len(confirmed.candidates)
    sweep = "; each training at its best decoding on validation" if confirmed.swept else ""
    return (
        f"Confirmation of {confirmed.search}: {num} configuration{'s' * (num != 1)} and the default, "
        f"{len(confirmed.seeds)} seeds each, {confirmed.epochs} epochs\n"
        f"mean ± standard error over seeds {', '.join(map(str, confirmed.seeds))} (the search used "
        f"{confirmed.search_seed}); differences paired by seed, in points, with intervals that hold together with "
        f"{_confidence(confirmed)}{sweep}"
    )


def _confidence(confirmed: Confirmed) -> str:
    """Return the confidence of the intervals, and why it is above 95 %."""
    level = f"{100 * confirmed.confidence:.4g} %"
    if confirmed.look == 1:
        return level
    return f"{level} (look {confirmed.look} at results: each one more costs half of the chance of a false winner)"


def _table(confirmed: Confirmed) -> str:
    keys = list(dict.fromkeys(key for searched in confirmed.searched.values() for key in searched))
    fixed = ["at default decode"] if confirmed.swept else []
    rows = [["", "trial", "in the search", METRIC, "to the default", *fixed, "seconds", *keys]]
    for configuration in (*confirmed.candidates, confirmed.default):
        name, own = configuration.name, configuration is confirmed.default
        mark = "default" if own else "winner" if configuration is confirmed.winner else ""
        searched = confirmed.search_accuracy.get(name)
        seconds = sum(r.seconds for r in configuration.runs) / len(configuration.runs)
        rows.append(
            [
                mark,
                name,
                f"{100 * searched:.1f} %" if searched is not None else "-",
                percent(configuration.accuracy),
                "" if own else points(confirmed.differences.get(name)),
                *([percent(configuration.accuracy_fixed_decode)] if fixed else []),
                f"{seconds:.1f}",
                *(_shown(confirmed.searched[name].get(key, "-")) for key in keys),
            ]
        )
    failures = [line for c in (*confirmed.candidates, confirmed.default) for line in c.failures]
    return "\n".join([aligned(rows, left=2), *failures])


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _verdict(confirmed: Confirmed) -> str:
    """Return the verdict on the validation split."""
    if confirmed.unfinished:
        return "No verdict yet: some trainings are to be trained again. The test split was not read."
    winner, best = confirmed.winner, confirmed.best
    if best is None:
        return "No winner: no configuration finished all its trainings."
    if winner is None:
        difference = confirmed.differences.get(best.name)
        if difference is None or difference.count < MIN_SEEDS:
            where = f"over fewer than {MIN_SEEDS} seeds, which prove nothing"
        else:
            where = "below it" if difference.high < 0 else "an interval that includes 0"
        return (
            f"No winner: the best on average, {best.name}, is {points(difference)} points from the default, {where}. "
            "The test split was not read."
        )
    others = confirmed.to(winner, [c for c in confirmed.whole if c is not winner])
    rivals = [name for name, difference in others.items() if not difference.separated]
    close = f" It cannot be told apart from {', '.join(rivals)}." if rivals else ""
    return (
        f"Winner: {winner.name}. On val {points(confirmed.differences[winner.name])} points to the default, "
        f"selected on val and so optimistic.{close}"
    )


def _test(confirmed: Confirmed) -> str:
    """Return the verdict on the test split; empty if it was not read though it is there."""
    winner, difference = confirmed.winner, confirmed.test_difference
    if winner is not None and not confirmed.has_test:
        return (
            "The data set has no test split, so nothing is known about unseen data. To measure it, prepare the data "
            "set again with photographs in split test, then search and confirm again."
        )
    if winner is None or difference is None:
        return ""
    finding = (
        "the gain holds on unseen data"
        if difference.low > 0
        else "the interval includes 0: on unseen data the gain is not proven"
        if difference.high >= 0
        else "on unseen data it is worse"
    )
    return (
        f"Test split (read for these two alone): {winner.name} {percent(winner.test_accuracy)}, default "
        f"{percent(confirmed.default.test_accuracy)}, gain {points(difference)} points: {finding}."
    )


def _next(confirmed: Confirmed, directory: Path) -> str:
    search, results = directory.parent, directory.parent.parent
    commands = [(tensorboard(directory / RUNS), "the curves of all trainings")]
    if confirmed.winner is not None:
        run = max(confirmed.winner.runs, key=lambda r: r.accuracy or 0.0)
        weights = final_weights(confirmed.final, directory) if confirmed.final else None
        match = command("--match", weights or directory / run.directory / BEST, *IMAGES)
        commands.insert(0, (match, "use the winner"))
    else:
        top, seeds = len(confirmed.candidates), 2 * len(confirmed.seeds)
        words = [search.name, "--top", str(top), "--seeds", str(seeds)]
        words += ["--seed", str(confirmed.seeds[0])] if confirmed.seeds[0] != confirmed.search_seed + 1 else []
        words += set_words(confirmed.changed)
        more = command("--confirm", *words, results=results, data=confirmed.data)
        commands.insert(0, (more, "more seeds; these are kept, and it is one more look"))
    return "Next:\n" + aligned([[f"  {command}", f"# {why}"] for command, why in commands], left=2)

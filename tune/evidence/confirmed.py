"""The results of a confirmation: confirm.json, and the report that is printed from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nmt.commands import command
from nmt.errors import UserError
from nmt.io.table import aligned
from nmt.training.files import BEST
from nmt.training.history import METRIC
from tune.evidence.final import Final, final_from_dict, final_weights, render_final
from tune.evidence.photograph_table import photograph_table
from tune.evidence.photographs import Spread, spreads_from_dict
from tune.evidence.repeated import Repeated, repeated_from_dict
from tune.results.commands import IMAGES, set_words, tensorboard
from tune.results.layout import RUNS
from tune.results.statistics import Difference
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
    photographs: dict[str, dict[str, Spread]] = field(default_factory=dict)
    """val, test or final -> configuration -> its standard errors over photographs"""

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
    def best(self) -> Repeated | None:
        """The candidate with the highest mean among those that finished every seed."""
        whole = [c for c in self.candidates if c.accuracy is not None and not c.failures]
        return max(whole, key=lambda c: c.accuracy.mean if c.accuracy else 0.0, default=None)

    @property
    def winner(self) -> Repeated | None:
        """The best candidate whose whole interval lies above the default; None if there is none, or none yet."""
        if self.unfinished:
            return None
        above = [c for c in self.candidates if not c.failures and _is_above(c.above(self.default))]
        return max(above, key=lambda c: c.accuracy.mean if c.accuracy else 0.0, default=None)

    @property
    def test_difference(self) -> Difference | None:
        """The winner's difference to the default on the test split; None until it has been read."""
        return self.winner.above(self.default, of="test_accuracy") if self.winner else None

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
            "test_difference": self.test_difference.to_dict() if self.test_difference else None,
            "has_test": self.has_test,
            "changed": self.changed,
            "photographs": {of: {c: asdict(s) for c, s in known.items()} for of, known in self.photographs.items()},
            "final": self.final.to_dict() if self.final else None,
            "default": self.default.to_dict(),
            "candidates": [c.to_dict(self.default) for c in self.candidates],
        }


def _is_above(difference: Difference | None) -> bool:
    return difference is not None and difference.low > 0


def load_confirmed(path: Path) -> Confirmed:
    """Read a confirm.json. Raises UserError if it is something else."""
    try:
        content = json.loads(path.read_text())
        default, candidates = content.pop("default"), content.pop("candidates")
        final = content.pop("final", None)  # not in the file of an earlier version
        del content["winner"], content["test_difference"]
        content["seeds"] = tuple(content["seeds"])
        content["photographs"] = {of: spreads_from_dict(v) for of, v in content.pop("photographs", {}).items()}
        return Confirmed(
            **content,
            default=repeated_from_dict(default),
            candidates=tuple(map(repeated_from_dict, candidates)),
            final=final_from_dict(final) if final else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the file of a confirmation ({error})") from error


def render(confirmed: Confirmed, directory: Path) -> str:
    """Return the report: the table, the verdict on both splits, and the commands to run next."""
    final = render_final(confirmed.final) if confirmed.final else ""
    over_both = photograph_table(confirmed.default, confirmed.candidates, confirmed.final, confirmed.photographs)
    parts = [_head(confirmed), _table(confirmed), _verdict(confirmed), _test(confirmed), final, over_both]
    parts.append(_next(confirmed, directory))
    return "\n\n".join(part for part in parts if part)


def _head(confirmed: Confirmed) -> str:
    num = len(confirmed.candidates)
    sweep = "; each training at its best decoding on validation" if confirmed.swept else ""
    return (
        f"Confirmation of {confirmed.search}: {num} configuration{'s' * (num != 1)} and the default, "
        f"{len(confirmed.seeds)} seeds each, {confirmed.epochs} epochs\n"
        f"mean ± standard error over seeds {', '.join(map(str, confirmed.seeds))} (the search used "
        f"{confirmed.search_seed}); differences paired by seed, with 95 % intervals, in points{sweep}"
    )


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
                "" if own else points(configuration.above(confirmed.default)),
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
        difference = best.above(confirmed.default)
        where = "below it" if difference and difference.high < 0 else "an interval that includes 0"
        return (
            f"No winner: the best on average, {best.name}, is {points(difference)} points from the default, {where}. "
            "The test split was not read."
        )
    rivals = [
        c.name
        for c in confirmed.candidates
        if c is not winner and (d := winner.above(c)) is not None and not d.separated
    ]
    close = f" It cannot be told apart from {', '.join(rivals)}." if rivals else ""
    return f"Winner: {winner.name}, {points(winner.above(confirmed.default))} points to the default.{close}"


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
        f"{percent(confirmed.default.test_accuracy)}, difference {points(difference)} points: {finding}."
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
        commands.insert(0, (more, "more seeds; these are kept"))
    return "Next:\n" + aligned([[f"  {command}", f"# {why}"] for command, why in commands], left=2)

"""Train the best configurations of a search again with new seeds: is the winner better than the default?

A search tries each configuration once, so its best one is also the luckiest. Here the best K and the default
configuration train N times each, to the full budget, and are compared seed by seed. A configuration is called the
winner only if its 95 % interval lies above 0. Only then is the test split read: once, for the winner and the default.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nmt.config import from_dict, with_overrides
from nmt.errors import UserError
from nmt.io.files import write_json
from nmt.io.table import aligned
from nmt.training.files import BEST
from nmt.training.history import METRIC
from tune.driver.identity import check_data_set
from tune.evidence.repeated import (
    AGAIN,
    Repeated,
    Repetition,
    Variant,
    check_all_ended,
    check_one_worker,
    in_ray,
    repeated_from_dict,
)
from tune.results.definition import space_of
from tune.results.layout import CONFIRM, CONFIRMED, RUNS, SPACE
from tune.results.log import kept_in, log
from tune.results.statistics import Difference
from tune.results.summary import Summary, TrialRecord, load_summary
from tune.results.table import percent, points
from tune.spaces.space import Space

DEFAULT = "000"
"""name of the default configuration: the id of its trial"""


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

    @property
    def unfinished(self) -> bool:
        """True if the same command has trainings to train again, so that the winner may still change."""
        return any(run.again for c in (self.default, *self.candidates) for run in c.runs)

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
        del content["winner"], content["test_difference"]
        content["seeds"] = tuple(content["seeds"])
        return Confirmed(
            **content, default=repeated_from_dict(default), candidates=tuple(map(repeated_from_dict, candidates))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the file of a confirmation ({error})") from error


def run_confirm(
    directory: str | Path,
    *,
    data: str | Path | None = None,
    top: int = 3,
    seeds: int = 3,
    first_seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Confirmed:
    """Train the `top` best trials of a search and its default with `seeds` seeds; print and return the results.

    Writes `directory`/confirm: runs/ID-sSEED/ (the files of a training) and confirm.json. The same command again
    resumes an interrupted confirmation, or adds seeds or configurations to it.

    Args:
        data: the Arrow data set; by default that of the search.
        first_seed: first seed, by default the one after the search's; the others count up and leave that one out.
        overrides: configuration keys to change in every configuration alike.

    Raises:
        UserError: no search, no complete trial, fewer than two seeds, or an error of `Repetition`.
        FailedError: some trainings failed, which the same command trains again; the others are in the table.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the confirmation can be resumed.
    """
    _check_numbers(top, seeds)
    summary, directory = load_summary(directory), Path(directory)
    chosen = best_trials(summary, directory, top)
    space = space_of(directory)
    check_one_worker(space.resources, str(directory / SPACE))
    variants = _variants(space, chosen, overrides or {})
    chosen_seeds = unseen_seeds(space.base.train.seed, seeds, first_seed)
    repetition = Repetition(
        directory=directory / CONFIRM,
        data=data or summary.data,
        decode_grid=space.decode_grid(),
        resources=space.resources,
    )
    check_data_set(directory, ready := repetition.check(variants, chosen_seeds))
    with kept_in(directory):
        log.info(_plan(summary, chosen, chosen_seeds, top))
        with in_ray(repetition.directory):
            default, *candidates = repetition.train(variants, chosen_seeds)
            confirmed = Confirmed(
                search=directory.name,
                data=str(repetition.data),
                search_seed=space.base.train.seed,
                seeds=chosen_seeds,
                epochs=variants[0].config.train.epochs,
                searched={DEFAULT: _plain_params(space)} | {t.id: t.searched for t in chosen},
                search_accuracy={t.id: t.accuracy for t in summary.trials if t in chosen or t is summary.default},
                swept=bool(repetition.decode_grid),
                default=default,
                candidates=tuple(candidates),
                has_test=ready.has_test,
            )
            write_json(repetition.directory / CONFIRMED, confirmed.to_dict())  # to read the test split may fail
            confirmed = with_test(confirmed, repetition)
            write_json(repetition.directory / CONFIRMED, confirmed.to_dict())
        log.info("\n" + render(confirmed, repetition.directory))
    check_all_ended((confirmed.default, *confirmed.candidates), again=AGAIN)
    return confirmed


def _check_numbers(top: int, seeds: int) -> None:
    if seeds < 2:
        raise UserError(f"--seeds must be at least 2, for an interval needs two trainings, but got {seeds}")
    if top < 1:
        raise UserError(f"--top must be at least 1, but got {top}")


def best_trials(summary: Summary, directory: Path, top: int) -> list[TrialRecord]:
    """Return the `top` trials of highest val/accuracy that differ from the default configuration and from each other.

    Raises:
        UserError: no trial is complete, or only the default configuration has a result.
    """
    if summary.best is None:
        raise UserError(
            f"{directory}: no trial has completed its epochs, so there is nothing to confirm; continue with: "
            f"python run.py --search {directory.name} --resume"
        )
    chosen = summary.rivals[:top]
    if not chosen:
        wanted = max(16, 2 * len(summary.trials))
        raise UserError(
            f"{directory}: only the default configuration has a result, so there is nothing to compare with it; "
            f"continue with: python run.py --search {directory.name} --resume --trials {wanted}"
        )
    return chosen


def unseen_seeds(search_seed: int, count: int, first: int | None) -> tuple[int, ...]:
    """Return `count` seeds from `first` up, without the seed of the search.

    The candidates were chosen by their results with that seed, so it favours them.
    """
    start = search_seed + 1 if first is None else first
    return tuple(itertools.islice((s for s in itertools.count(start) if s != search_seed), count))


def _plain_params(space: Space) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in space.default_params.items()}


def _variants(space: Space, chosen: Sequence[TrialRecord], overrides: Mapping[str, Any]) -> list[Variant]:
    """Return the default configuration, then the chosen ones."""
    refused = {"train.seed": "the seeds are --seed and --seeds"}
    refused |= {p.key: "it was searched" for p in (*space.parameters, *space.sweep)}
    for key in overrides:
        if key in refused:
            raise UserError(f"--set: {key} cannot be set in a confirmation: {refused[key]}")
    configs = {DEFAULT: space.base} | {t.id: from_dict(t.configuration, source=f"trial {t.id}") for t in chosen}
    return [
        Variant(name=name, slug=name, config=with_overrides(config, overrides, source="--set"))
        for name, config in configs.items()
    ]


def with_test(confirmed: Confirmed, repetition: Repetition) -> Confirmed:
    """Read the test split for the winner and the default; leave it unread if there is no winner or no such split."""
    winner = confirmed.winner
    if winner is None or not confirmed.has_test:
        return confirmed
    log.info(f"reading the test split for {winner.name} and the default: report these numbers, do not choose by them")
    read = repetition.read_test(winner)
    candidates = tuple(read if c is winner else c for c in confirmed.candidates)
    return replace(confirmed, default=repetition.read_test(confirmed.default), candidates=candidates)


def _plan(summary: Summary, chosen: Sequence[TrialRecord], seeds: Sequence[int], top: int) -> str:
    fewer = f" (--top {top}: there are no more)" if len(chosen) < top else ""
    return (
        f"the best {len(chosen)}{fewer} of {len(summary.trials)} trials and the default configuration, "
        f"seeds {', '.join(map(str, seeds))}"
    )


def render(confirmed: Confirmed, directory: Path) -> str:
    """Return the report: the table, the verdict on both splits, and the commands to run next."""
    parts = [_head(confirmed), _table(confirmed), _verdict(confirmed), _test(confirmed), _next(confirmed, directory)]
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
    place = "" if results == Path("results") else f" --results {results}"
    place += "" if Path(confirmed.data).parent == Path("data") else f" --data {confirmed.data}"
    more = f"python run.py --confirm {search.name} --top {len(confirmed.candidates)} --seeds"
    commands = [(f"tensorboard --logdir {directory / RUNS}", "the curves of all trainings")]
    if confirmed.winner is not None:
        run = max(confirmed.winner.runs, key=lambda r: r.accuracy or 0.0)
        match = f"python run.py --match {directory / run.directory / BEST} --images A.jpg B.jpg"
        commands.insert(0, (f"{match} --keypoints A.csv B.csv", "use the winner"))
    else:
        commands.insert(0, (f"{more} {2 * len(confirmed.seeds)}{place}", "more seeds; these are kept"))
    return "Next:\n" + aligned([[f"  {command}", f"# {why}"] for command, why in commands], left=2)

"""Train the best configurations of a search again with new seeds: is the winner better than the default?

A search tries each configuration once, so its best one is also the luckiest. Here the best K and the default
configuration train N times each, to the full budget, and are compared seed by seed. A configuration is called the
winner only if its interval lies above 0; the K intervals hold together, and over repeated looks (tune.evidence.looks).
Only then is the test split read: once, for the winner and the default.
With `final`, both first train again on train and val together, and the test split is read for those trainings.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nmt.config import DataConfig, from_dict, with_overrides
from nmt.data.store.objects import ObjectStore
from nmt.data.store.ready import ReadyData
from nmt.data.stream.pairs import eval_pairs
from nmt.errors import UserError
from nmt.io.files import write_json
from nmt.training.history import F1_METRIC
from tune.driver.identity import check_data_set
from tune.evidence.confirmed import Confirmed, load_confirmed, render
from tune.evidence.final import Final, check_final, train_final
from tune.evidence.looks import MIN_SEEDS, SEEDS, with_look
from tune.evidence.measures import measured
from tune.evidence.photographs import Spread
from tune.evidence.repeated import (
    AGAIN,
    Repetition,
    Variant,
    check_all_ended,
    check_one_worker,
    in_ray,
)
from tune.results.commands import resume_command
from tune.results.definition import space_of
from tune.results.layout import CONFIRM, CONFIRMED, FINAL, SPACE
from tune.results.log import kept_in, log
from tune.results.summary import Summary, TrialRecord, load_summary
from tune.spaces.space import Space

DEFAULT = "000"
"""name of the default configuration: the id of its trial"""


def run_confirm(
    directory: str | Path,
    *,
    data: str | Path | None = None,
    top: int = 3,
    seeds: int = SEEDS,
    first_seed: int | None = None,
    final: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Confirmed:
    """Train the `top` best trials of a search and its default with `seeds` seeds; print and return the results.

    Writes `directory`/confirm: runs/ID-sSEED/, confirm.json, with `final` also final/. Again, it resumes or adds to it.

    Args:
        data: the Arrow data set; by default that of the search.
        first_seed: first seed, by default the one after the search's; the others count up and leave that one out.
        final: train the winner and the default on train and val together before the test split is read.
        overrides: configuration keys to change in every configuration alike.

    Raises:
        UserError: no search, no complete trial, fewer than three seeds, a damaged confirm.json, or an error of
            `Repetition` or `check_final`.
        FailedError: some trainings failed, which the same command trains again; the others are in the table.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the confirmation can be resumed.
    """
    _check_numbers(top, seeds)
    summary, directory = load_summary(directory), Path(directory)
    chosen, space = best_trials(summary, directory, top), space_of(directory)
    check_one_worker(space.resources, str(directory / SPACE))
    variants = _variants(space, chosen, overrides or {})
    chosen_seeds = unseen_seeds(space.base.train.seed, seeds, first_seed)
    repetition = _repetition(directory, data or summary.data, space)
    check_data_set(directory, ready := repetition.check(variants, chosen_seeds))
    check_final(ready, asked=final)
    earlier = _earlier(repetition.directory / CONFIRMED)
    with kept_in(directory), in_ray(repetition.directory):
        log.info(_plan(summary, chosen, chosen_seeds, top))
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
            changed=dict(overrides or {}),
            val_keypoints=_val_keypoints(ready, variants[0].config.data),
            looks=earlier.looks if earlier else (),
        )
        confirmed = _conclude(confirmed, earlier, repetition, variants, final=final)
        log.info("\n" + render(confirmed, repetition.directory))
    check_all_ended(confirmed.trained, again=AGAIN)
    return confirmed


def _repetition(directory: Path, data: str | Path, space: Space) -> Repetition:
    """Return what trains the configurations of the search in `directory`."""
    return Repetition(
        directory=directory / CONFIRM,
        data=data,
        decode_grid=space.decode_grid(),
        resources=space.resources,
        keep=space.search.keep,
        val_f1=F1_METRIC in space.search.objectives,
    )


def _earlier(path: Path) -> Confirmed | None:
    """Return what an earlier call has written; None for the first. Raises UserError if it is damaged."""
    if not path.is_file():
        return None
    try:
        return load_confirmed(path)
    except UserError as error:
        raise UserError(
            f"{error}; it counts the looks at results: restore it, or move {path.parent} away to begin anew"
        ) from error


def _val_keypoints(ready: ReadyData, config: DataConfig) -> int:
    """Count the keypoints that a validation accuracy is computed over."""
    return sum(len(pair.match_N) for pair in eval_pairs(ObjectStore.open(ready.folder), config, split="val"))


def _conclude(
    confirmed: Confirmed,
    earlier: Confirmed | None,
    repetition: Repetition,
    variants: Sequence[Variant],
    *,
    final: bool,
) -> Confirmed:
    """Read the test split, with `final` for trainings on train and val; write confirm.json before and after."""
    path = repetition.directory / CONFIRMED
    if not confirmed.unfinished:
        confirmed = replace(confirmed, looks=with_look(confirmed.looks, confirmed.this_look))
    confirmed = replace(confirmed, final=_earlier_final(earlier, confirmed))
    write_json(path, confirmed.to_dict())  # what follows may fail
    winner, named = confirmed.winner, {variant.name: variant for variant in variants}
    if not final or winner is None:
        confirmed = with_test(confirmed, repetition)
    else:
        default, *candidates = map(repetition.with_known_test, (confirmed.default, *confirmed.candidates))
        chosen = [(named[repeated.name], repeated) for repeated in (winner, default)]
        trained = train_final(repetition, chosen, confirmed.seeds, confidence=confirmed.confidence)
        confirmed = replace(confirmed, default=default, candidates=tuple(candidates), final=trained)
    directory = repetition.directory
    confirmed = replace(
        confirmed, photographs=spreads_of(confirmed, directory), measures=measures_of(confirmed, directory)
    )
    write_json(path, confirmed.to_dict())
    return confirmed


def spreads_of(confirmed: Confirmed, directory: Path) -> dict[str, dict[str, Spread]]:
    """Return the standard errors over photographs of all means: on val, on test, and of the final trainings."""
    from tune.evidence.by_pair import spreads

    found = {of: spreads(directory, of, confirmed.default, confirmed.candidates) for of in ("val", "test")}
    if confirmed.final:
        final = confirmed.final
        found["final"] = spreads(directory / FINAL, "test", final.default, [final.winner])
    return found


def measures_of(confirmed: Confirmed, directory: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return the other measures of all configurations: on val, on test, and of the final trainings."""
    every = (*confirmed.candidates, confirmed.default)
    found = {of: measured(directory, of, every) for of in ("val", "test")}
    if confirmed.final:
        final = confirmed.final
        found["final"] = measured(directory / FINAL, "test", (final.winner, final.default))
    return found


def _earlier_final(earlier: Confirmed | None, confirmed: Confirmed) -> Final | None:
    """Return the final trainings of an earlier call, if they are those of the same winner with the same seeds."""
    if earlier is None or earlier.final is None or earlier.seeds != confirmed.seeds or confirmed.winner is None:
        return None
    same = earlier.final.winner.name == confirmed.winner.name
    return replace(earlier.final, confidence=confirmed.confidence) if same else None


def _check_numbers(top: int, seeds: int) -> None:
    if seeds < MIN_SEEDS:
        raise UserError(
            f"--seeds must be at least {MIN_SEEDS}, for fewer trainings do not show how much chance moves them, but "
            f"got {seeds}"
        )
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
            f"{resume_command(summary, directory)}"
        )
    chosen = summary.rivals[:top]
    if not chosen:
        wanted = max(16, 2 * len(summary.trials))
        raise UserError(
            f"{directory}: only the default configuration has a result, so there is nothing to compare with it; "
            f"continue with: {resume_command(summary, directory, '--trials', str(wanted))}"
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
    refused["data.train_split"] = "val decides here; --final then trains the winner and the default on both"
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

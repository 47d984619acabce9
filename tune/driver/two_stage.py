"""A search at two fidelities: its budget on stored features, then its best trials end to end on images.

Both stages are ordinary searches, in results/NAME/features and results/NAME/images, each with its own study, early
stopping and report. Every trial of the second records the trial of the first that it comes from. The result of the
whole search is that of the second stage: its trials in summary.json, its winner in best.json.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt.data.store.ready import ready_data
from nmt.errors import UserError
from nmt.io.table import aligned
from tune.results.layout import DEFINITION, SUMMARY
from tune.results.log import kept_in, log
from tune.results.report import render
from tune.results.statistics import rank_correlation
from tune.results.summary import Summary, load_summary
from tune.spaces.fidelity import HIGH, LOW, Promoted
from tune.spaces.space import Space
from tune.spaces.stages import exploration, final


def run_stages(
    space: Space,
    *,
    results: Path,
    data: str | Path,
    storage: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    workers: str | None = None,
    resume: bool = False,
) -> Summary:
    """Run both stages, or resume the one that was interrupted.

    Arguments and errors as tune.driver.search.run_search.

    Args:
        trials: number of trials of the exploration. It cannot change once the second stage has begun.
    """
    from tune.driver.identity import check_data_set, check_results, write_definition
    from tune.driver.ray_session import ray_session
    from tune.driver.search import complete, find_home
    from tune.results.storage import Storage, run_address

    directory = results / space.name
    home = find_home(storage, directory, resume=resume)
    space = _checked(space, directory, resume=resume, trials=trials, seed=seed, workers=workers)
    low = exploration(space)
    ready = ready_data(data, [*low.stored(), space.base])
    check_data_set(directory, ready)

    def stage(part: Space) -> Summary:
        place = directory / part.name
        part = check_results(
            part,
            place,
            resume=(place / DEFINITION).is_file(),
            trials=part.search.trials or None,
            seed=part.search.seed,
            workers=part.resources.workers_text,
        )
        its = Storage(run_address(home.address, part.name), place.resolve()) if home else None
        return complete(part, place, data=lambda: ready, home=its)

    with ray_session():
        write_definition(space, directory, ready, home=home.address if home else None)
        if home:
            home.put()
        with kept_in(directory):
            log.info(f"Stage 1 of 2, on {LOW}")
            explored = stage(low)
            chosen = promote(explored, space.search.promote, directory)
            log.info(f"\nStage 2 of 2, on {HIGH}: the default configuration and the best {len(chosen)} of stage 1")
            found = stage(final(space, chosen))
            whole = as_whole(found, space)
            whole.save(directory)
            log.info("")
            log.info(render_stages(explored, whole, directory))
    if home:
        home.put()
    return whole


def _checked(
    space: Space, directory: Path, *, resume: bool, trials: int | None, seed: int | None, workers: str | None
) -> Space:
    """Return the space with its budget and workers, after a check that `directory` is free or holds this search."""
    from tune.driver.identity import check_limits_kept, check_results, say_changed, say_nothing_to_resume

    promoted = (directory / HIGH / DEFINITION).is_file()
    if resume and promoted and trials is not None:
        raise UserError(
            f"{directory}: the exploration on {LOW} has finished, its best train on {HIGH}; leave --trials out"
        )
    space = check_results(space, directory, resume=resume, trials=trials, seed=seed, workers=workers)
    if resume:
        say_nothing_to_resume(directory, space.name)
        say_changed(space, directory)
    if promoted:
        check_limits_kept(space, directory)
    return space


def preview_stages(
    space: Space, *, results: Path, storage: str | None = None, trials: int | None = None, **options: Any
) -> dict[str, Any]:
    """Preview both stages (`--dry-run`): stage -> plain values of its preview.

    Arguments as tune.driver.search.preview_search.
    """
    from tune.driver.search import preview_search
    from tune.results.storage import run_address

    place, home = results / space.name, storage and run_address(storage, space.name)
    budgets = ((exploration(space), trials), (final(space, []), space.search.promote + 1))
    return {
        part.name: preview_search(part, results=place, storage=home, trials=count, **options).to_dict()
        for part, count in budgets
    }


def promote(explored: Summary, count: int, directory: Path) -> list[Promoted]:
    """Return the best `count` configurations of the exploration.

    Raises:
        UserError: only the default configuration has a result.
    """
    rivals = explored.rivals[:count]
    if not rivals:
        raise UserError(f"{directory / LOW}: only the default configuration has a result; see {SUMMARY} there")
    return [Promoted(origin=f"{LOW}/{t.id}", params=t.searched) for t in rivals]


def as_whole(found: Summary, space: Space) -> Summary:
    """Return the second stage's summary as that of the whole search."""
    trials = (
        dataclasses.replace(t, checkpoint=f"{HIGH}/{t.checkpoint}" if t.checkpoint else None) for t in found.trials
    )
    return dataclasses.replace(found, name=space.name, trials=tuple(trials))


def is_staged(directory: Path) -> bool:
    """True if `directory` holds a search of two fidelities."""
    try:
        return bool(json.loads((directory / DEFINITION).read_text()).get("fidelity"))
    except (OSError, ValueError, AttributeError):
        return False


def report(directory: Path, repeated: Sequence[Sequence[float]] = ()) -> tuple[Summary, str]:
    """Return the summary of the last stage that has begun, and the report so far. Raises UserError if none has.

    Args:
        repeated: accuracies over seeds of each configuration of its confirmation.
    """
    explored = load_summary(directory / LOW)
    if not (directory / SUMMARY).is_file():
        return explored, f"Stage 1 of 2, on {LOW}\n\n{render(explored, directory / LOW, advice=False)}"
    whole = load_summary(directory)
    return whole, render_stages(explored, whole, directory, repeated)


def render_stages(explored: Summary, whole: Summary, directory: Path, repeated: Sequence[Sequence[float]] = ()) -> str:
    """Return the reports of both stages, and between them a comparison of the two fidelities."""
    parts = [
        f"Stage 1 of 2, on {LOW}",
        render(explored, directory / LOW, advice=False),
        f"From {LOW} to {HIGH}",
        _comparison(explored, whole),
        f"Stage 2 of 2, on {HIGH}",
        render(whole, directory, trials=directory / HIGH, repeated=repeated),
    ]
    return "\n\n".join(parts)


def _comparison(explored: Summary, whole: Summary) -> str:
    """Return the table of configurations that trained at both fidelities, and their rank correlation."""
    before = {f"{LOW}/{t.id}": t for t in explored.trials}
    once = [t for t in whole.trials if t.seed == whole.trials[0].seed]  # without repeats
    shared = [(t, before[t.origin or f"{LOW}/000"]) for t in once if (t.origin or f"{LOW}/000") in before]
    both = [(t, b) for t, b in shared if t.accuracy is not None and b.accuracy is not None]
    both.sort(key=lambda pair: -(pair[0].accuracy or 0.0))
    rows = [["trial", f"on {HIGH}", "from", f"on {LOW}"]]
    rows += [[t.id, f"{t.accuracy:.1%}", f"{LOW}/{b.id}", f"{b.accuracy:.1%}"] for t, b in both]
    rank = rank_correlation([b.accuracy or 0.0 for _, b in both], [t.accuracy or 0.0 for t, _ in both])
    told = (
        f"Rank correlation of the two fidelities here: {rank.correlation:.2f} over {rank.count} configurations "
        f"(Spearman, p {rank.p_value:.2g}), each at its best epoch. They are the best on {LOW}, so they are close."
        if rank is not None
        else "Too few configurations have a result at both fidelities for a rank correlation."
    )
    return aligned(rows, left=1) + "\n\n" + told

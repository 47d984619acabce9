"""Warm start: show the sampler what another search over the same keys found.

Trials of the other search never become trials of this one. They are kept beside the study, in warm_start.json. So the
study holds each trial of this search exactly once, and --resume does not need the other search. Values of another
search need not compare with ours (another data set, other epochs), but their order does. So a trial counts with the
normal quantile of its rank, as in tune/study/sampler_view.py.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nmt.errors import UserError, one_line
from nmt.io.files import write_json
from tune.spaces.space import Space
from tune.study.database import study_url
from tune.study.halving import Ladder, Standing
from tune.study.sampler_view import distribution, ranked


def warm_trials(space: Space, kept: Path, ladder: Ladder, *, study_file: str) -> list[FrozenTrial]:
    """Return the trials that a search starts from: those of `keep`, else of the other search; none without warm_start.

    Args:
        kept: the file of `keep`, which need not exist.
        study_file: the name of a study in a search's directory.

    Raises:
        UserError: no such study, or one over other keys.
    """
    if not space.search.warm_start:
        return []
    if kept.is_file():
        return [_as_trial(space, t["params"], t["score"]) for t in json.loads(kept.read_text())["trials"]]
    source = Path(space.search.warm_start)
    return read(space, source / study_file if source.is_dir() else source, ladder)


def keep(space: Space, kept: Path, trials: Sequence[FrozenTrial]) -> None:
    """Write the trials to the file `kept`, for --resume."""
    if space.search.warm_start:
        entries = [{"params": t.params, "score": t.value} for t in trials]
        write_json(kept, {"source": space.search.warm_start, "trials": entries})


def read(space: Space, source: Path, ladder: Ladder) -> list[FrozenTrial]:
    """Read the finished trials of the study at `source` that lie within this space, COMPLETE with their quantiles."""
    study = _load(source)
    finished = [t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.params]
    _check_keys(space, finished, source)
    sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
    epochs = max((epoch for t in finished for epoch in t.intermediate_values), default=1)
    theirs = Ladder(epochs=epochs, grace=min(ladder.grace, epochs), factor=ladder.factor)
    within = {t.number: t for t in finished if _within(space, t.params)}
    scores = ranked({t.number: _standing(t, sign, epochs) for t in finished}, theirs)
    trials = [_as_trial(space, t.params, scores[n]) for n, t in within.items() if n in scores]
    if not trials:
        raise UserError(f"warm_start: none of the {len(finished)} finished trials of {source} lies within [space]")
    return trials


def _load(path: Path) -> optuna.Study:
    if not path.is_file():
        raise UserError(f"warm_start: {path}: no such study; give a search's directory or its study.db")
    with tempfile.TemporaryDirectory() as folder:  # a copy: opening may change a study, and theirs may be read-only
        copy = shutil.copy(path, Path(folder) / "copy.db")
        try:
            loaded = optuna.load_study(study_name=None, storage=study_url(Path(copy)))
            trials, directions = loaded.get_trials(), loaded.directions
        except (sqlalchemy.exc.SQLAlchemyError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"warm_start: {path}: not the study of one search ({one_line(error)})") from error
    if len(directions) > 1:
        raise UserError(
            f"warm_start: {path} has {len(directions)} objectives; a search starts from one of a single one"
        )
    study = optuna.create_study(direction=directions[0])
    study.add_trials(t for t in trials if t.state.is_finished())
    return study


def _check_keys(space: Space, trials: Sequence[FrozenTrial], source: Path) -> None:
    theirs = {key for t in trials for key in t.params}
    ours = {p.key for p in space.parameters}
    if theirs == ours:
        return
    parts = [f"{', '.join(sorted(theirs - ours))} only there"] if theirs - ours else []
    parts += [f"{', '.join(sorted(ours - theirs))} only here"] if ours - theirs else []
    raise UserError(f"warm_start: {source} searched other keys: {'; '.join(parts)}; a search starts from the same keys")


def _within(space: Space, params: Mapping[str, Any]) -> bool:
    """True if a trial of this search could have these values."""
    by_key = {p.key: p for p in space.parameters}
    try:
        values = {key: by_key[key].decode(value) for key, value in params.items()}
    except (ValueError, TypeError):
        return False
    return all(by_key[k].contains(v) for k, v in values.items()) and space.active_keys(values) == params.keys()


def _standing(trial: FrozenTrial, sign: float, epochs: int) -> Standing:
    values = {epoch: sign * value for epoch, value in trial.intermediate_values.items()}
    if not values and trial.value is not None:  # a study that is not ours
        values = dict.fromkeys(range(1, epochs + 1), sign * trial.value)
    return Standing(number=trial.number, values=values, until=epochs, ended=True)


def _as_trial(space: Space, params: Mapping[str, Any], score: float) -> FrozenTrial:
    return optuna.trial.create_trial(
        value=score,
        params=dict(params),
        distributions={p.key: distribution(p) for p in space.parameters if p.key in params},
    )

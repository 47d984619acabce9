"""The Python API of a search: run it, in one stage or two, and open its study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.errors import UserError
from tune.results import layout
from tune.spaces.space import Space

if TYPE_CHECKING:
    import optuna

    from tune.results.summary import Summary


def run_search(
    space: Space,
    *,
    data: str | Path | None = None,
    results: str | Path = "results",
    storage: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    workers: str | None = None,
    resume: bool = False,
) -> Summary:
    """Run the search, or resume it, in `results`/NAME; print its report and return its summary.

    A space with `fidelity` explores on stored features first, then trains the best on images. Connects to the Ray
    cluster at RAY_ADDRESS if that is set; otherwise starts Ray on this machine until the search ends.

    Args:
        data: the Arrow data set, a folder or an address; by default data/NAME.
        results: folder of all searches.
        storage: folder or address where all searches live; `results` is then a working copy.
        trials: number of configurations to try, instead of the space's.
        seed: seed of the sampler, instead of the space's.
        workers: data-parallel workers of each trial, "4" or "2:8", instead of the space's.
        resume: continue the search in `results`/NAME; its trials, seed and workers are remembered.

    Raises:
        UserError: `results`/NAME holds another search or is in use, no data set, or a machine without room for a trial.
        FailedError: too many trials in a row failed, or some were interrupted and wait for --resume.
        KeyboardInterrupt: Ctrl-C; every trial has its checkpoint, so the search can be resumed.
    """
    from tune.driver.search import run_search as run_one_stage
    from tune.driver.two_stage import run_stages

    run = run_stages if space.fidelity else run_one_stage
    place: dict[str, Any] = {"results": Path(results), "data": data or f"data/{space.base.data.name}"}
    return run(space, **place, storage=storage, trials=trials, seed=seed, workers=workers, resume=resume)


def open_study(directory: str | Path) -> optuna.Study:
    """Open the Optuna study of the search in `directory` (results/NAME), to read it with Optuna's own functions.

    Raises:
        UserError: no search has run there.
    """
    import optuna

    from tune.study.database import open_storage

    path = Path(directory) / layout.STUDY
    if not path.is_file():  # Optuna would create an empty one
        raise UserError(f"{path} does not exist: no search has run there")
    return optuna.load_study(study_name=None, storage=open_storage(path))

"""A search through the Python API, with few arguments and paths as text."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

import nmt
import tune
from nmt.errors import UserError


@pytest.mark.slow
def test_a_search_from_space_to_study_and_best_weights(tiny_data: Path, space_file: Path, tmp_path: Path) -> None:
    results = str(tmp_path / "results")
    space = tune.load_space(str(space_file))
    summary = tune.run_search(space, data=str(tiny_data), results=results, trials=2)
    assert summary.finished and len(summary.trials) == 2
    assert tune.load_summary(f"{results}/tiny") == summary
    study = tune.open_study(f"{results}/tiny")
    assert isinstance(study, optuna.Study) and len(study.trials) == 2
    assert study.best_value == summary.best.accuracy  # type: ignore[union-attr]

    best = tune.best_checkpoint(f"{results}/tiny")
    assert best == Path(results, "tiny/trials", summary.best.id, "best.pt")  # type: ignore[union-attr]
    result = nmt.evaluate(best, data=tiny_data)
    assert 0 <= result.mean["NMT"] <= 1

    with pytest.raises(UserError, match="already holds a search"):
        tune.run_search(space, data=tiny_data, results=results, trials=2)
    assert len(tune.run_search(space, data=tiny_data, results=results, trials=3, resume=True).trials) == 3

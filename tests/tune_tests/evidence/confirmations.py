"""Confirmations made of numbers, and searches to confirm, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt.config import to_dict, with_overrides
from nmt.io.files import write_json
from tune.evidence.confirmed import Confirmed
from tune.evidence.repeated import Repeated, Run
from tune.results.summary import Summary, TrialRecord
from tune.spaces.read import load_space


def repeated(name: str, accuracies: Sequence[float | None], test: Sequence[float] | None = None) -> Repeated:
    """The trainings of one configuration with seeds 1, 2, ..; None is a failed one."""

    def run_of(seed: int, accuracy: float | None) -> Run:
        return Run(
            seed=seed,
            directory=f"runs/{name}-s{seed}",
            accuracy=accuracy,
            accuracy_fixed_decode=accuracy,
            epoch=4,
            epochs=4,
            seconds=1.0,
            decode={"epsilon": 0.035},
            reason="the loss is no longer finite" if accuracy is None else None,
            test_accuracy=test[seed - 1] if test else None,
        )

    return Repeated(name=name, runs=tuple(run_of(seed, value) for seed, value in enumerate(accuracies, start=1)))


def confirmed(default: Repeated, *candidates: Repeated) -> Confirmed:
    names = [c.name for c in (default, *candidates)]
    return Confirmed(
        search="toy",
        data="data/toy",
        search_seed=0,
        seeds=tuple(r.seed for r in default.runs),
        epochs=4,
        searched={name: {"optim.lr": 1e-3} for name in names},
        search_accuracy=dict.fromkeys(names, 0.7),
        swept=True,
        default=default,
        candidates=candidates,
    )


DEFAULT = repeated("000", [0.60, 0.61, 0.62])
DIRECTORY = Path("results/toy/confirm")


def write_search(
    directory: Path, space_text: str, data: Path, trials: Sequence[tuple[dict[str, Any], str, float]]
) -> Summary:
    """results/tiny as a search leaves it that tried these values, ended so, at this accuracy."""
    directory.mkdir(parents=True)
    (directory / "search.toml").write_text(space_text)
    space = load_space(directory / "search.toml")
    write_json(directory / "search.json", space.to_dict())
    records = []
    for number, (searched, state, accuracy) in enumerate(trials):
        config = with_overrides(space.base, searched, source="test")
        metrics = {"epoch": 4, "val/accuracy": accuracy, "decode/epsilon": 0.035}
        records.append(
            TrialRecord(
                id=f"{number:03d}",
                state=state,
                searched=space.default_params | searched,
                configuration=to_dict(config),
                best=metrics,
                last=metrics,
                accuracy_fixed_decode=accuracy,
                epochs=4,
                seconds=1.0,
                seed=0,
                checkpoint=None,
                reason=None,
            )
        )
    plain = space.to_dict()
    summary = Summary(
        name="tiny", description="", data=str(data), space={}, search=plain["search"], resources=plain["resources"],
        epochs=4, seconds=1.0, trials=tuple(records),
    )  # fmt: skip
    summary.save(directory)
    return summary


GOOD, POOR = {"optim.lr": 3e-3, "model.d_model": 16}, {"optim.lr": 1e-1}

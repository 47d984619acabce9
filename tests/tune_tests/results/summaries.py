"""Summaries of searches with chosen accuracies."""

from __future__ import annotations

from typing import Any

from nmt.config import Config, to_dict, with_overrides
from tune.results.summary import Summary, TrialRecord


def record(
    number: int, accuracy: float | None, *, state: str = "COMPLETE", lr: float = 1e-3, **more: Any
) -> TrialRecord:
    config = with_overrides(Config(), {"optim.lr": lr, "data.name": "toy"}, source="test")
    decode = {"decode/sinkhorn_iterations": 10, "decode/epsilon": 0.05, "decode/assignment": "argmax"}
    metrics = {} if accuracy is None else {"epoch": 3, "val/accuracy": accuracy, **decode}
    values = {
        "id": f"{number:03d}",
        "state": state,
        "searched": {"optim.lr": lr},
        "configuration": to_dict(config),
        "best": metrics,
        "last": metrics,
        "accuracy_fixed_decode": accuracy,
        "epochs": 4,
        "seconds": 2.5,
        "seed": 0,
        "checkpoint": None,
        "reason": None,
    }
    return TrialRecord(**(values | more))


def summary(*trials: TrialRecord) -> Summary:
    return Summary(
        name="toy",
        description="a toy",
        data="data/toy",
        space={"optim.lr": "0.0001 to 0.1 (log)", "decode.epsilon": "0.01, 0.05"},
        search={
            "sampler": "tpe",
            "scheduler": "asha",
            "trials": 4,
            "epochs": 0,
            "hours": 0.0,
            "gpu_hours": 0.0,
            "patience": 0,
            "seed": 0,
            "grace_epochs": 1,
            "reduction_factor": 3,
        },
        resources={"cpus": 1, "gpus": 0.0, "workers": 1},
        epochs=4,
        seconds=12.0,
        trials=trials,
    )

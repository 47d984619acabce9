"""Compare trainings on pairs with keypoints that have no partner with the published one, on the same steps.

    python run.py --prepare demo --data data/demo
    python tests/bench/partial.py data/demo [--seeds 0 1] [--epochs 6] [--more 3]

Every arm trains a head on stored features, --epochs at the rate of the recipe and --more at a fifth of it:

    published     all on published pairs
    late          the last --more epochs: half of the pairs lose keypoints, 15 % join two categories, with a dustbin
    late, none    the same without pairs of two categories and without a dustbin
    from scratch  as late, from the first epoch on

Printed are means over the seeds on test, in points: published accuracy, recall of the plan with every keypoint matched
(drop4, both30), F1 at the threshold that was fitted on val (noc, mix; nmt.inference.outliers), and the processor
seconds of the arm. "epoch" is the one in best.pt, chosen by published accuracy on val.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from nmt.calibration import matches_of, protocol_similarities
from nmt.config import Config, with_overrides
from nmt.inference.evaluate import MODEL, evaluate_checkpoint
from nmt.inference.load import load_trained, open_plain
from nmt.io.table import aligned
from nmt.recipes import recipe
from nmt.training.files import BEST
from nmt.training.loop import train

CPU = torch.device("cpu")
LOST = {"data.outliers": 0.5}
CROSSED = LOST | {"data.cross": 0.15, "loss.unmatched": "dustbin"}
ARMS: dict[str, dict[str, Any]] = {
    "published": {},
    "late": CROSSED,
    "late, none": LOST,
    "from scratch": CROSSED | {"data.outliers_from": 0},
}
RECALL = ("drop4", "both30")


def configuration(arm: str, *, epochs: int, more: int, seed: int) -> Config:
    """Return the configuration of an arm."""
    phases = {"train.epochs": epochs + more, "optim.milestones": [epochs], "optim.gamma": 0.2}
    return with_overrides(recipe("demo"), phases | {"train.seed": seed} | ARMS[arm], source="the bench")


def measure(config: Config, data: Path) -> dict[str, float]:
    """Train, and measure on test."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, loggers=()))
        best = train(config, data=data, directory=Path(directory))
        path = Path(directory) / BEST
        found = evaluate_checkpoint(path, data=data, split="test", outliers=True)
        recall = recall_of_all(path, data)
    if found.outliers is None:
        raise ValueError("no figures were asked for")
    f1 = {f"F1 {pool}": 100 * found.outliers.figures[pool]["f1"] for pool in ("noc", "mix")}
    spent = {"epoch": best.epoch, "seconds": time.process_time() - started}
    return {"accuracy": 100 * found.mean[MODEL], **recall, **f1, **spent}


def recall_of_all(path: Path, data: Path) -> dict[str, float]:
    """Return the recall of some protocols with every source keypoint matched."""
    trained = load_trained(path)
    store, features = open_plain(data, trained.config, checkpoint=path, categories=trained.categories)
    stored = protocol_similarities(
        trained.matcher, store, trained.config, split="test", features=features, device=CPU, most=200, protocols=RECALL
    )
    rows = {name: matches_of(pairs, trained.config.decode) for name, pairs in stored.items()}
    return {f"recall {name}": 100 * float(r.right_R.sum()) / r.matchable for name, r in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--more", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    for arm in ARMS:
        each = [
            measure(configuration(arm, epochs=args.epochs, more=args.more, seed=seed), args.data) for seed in args.seeds
        ]
        if not rows:
            rows.append(["", *each[0]])
        rows.append([arm, *(f"{statistics.mean(one[name] for one in each):.1f}" for name in each[0])])
        print(aligned([rows[0], rows[-1]], left=1), flush=True)
    print(f"\nmeans of {len(args.seeds)} seeds on {args.data}\n{aligned(rows, left=1)}")


if __name__ == "__main__":
    main()

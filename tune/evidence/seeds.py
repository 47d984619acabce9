"""One recipe, trained several times with different seeds: its accuracy by category, as the mean over the seeds.

The trainings are folders below one folder, in any order: `--train NAME --seed N --results FOLDER/N` makes them. Each is
evaluated once, and its result kept beside its weights, so that the same command again reads no split twice.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import Config, comparable, load_config, to_flat
from nmt.data.store.ready import ready_data
from nmt.errors import UserError
from nmt.inference.evaluate import MODEL, Evaluation, evaluate_checkpoint
from nmt.io.file_record import record
from nmt.io.files import atomic_write, write_json
from nmt.io.table import shortened
from nmt.settings import differences
from nmt.training.files import BEST, CONFIG
from nmt.training.history import read_metrics
from tune.evidence.repeated import with_seed
from tune.results.layout import evaluation_file, seeds_table
from tune.results.log import log
from tune.results.statistics import Mean, mean_of
from tune.results.table import with_interval


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Evaluations of trainings that differ in the seed alone."""

    name: str
    config: Config
    """configuration of the first training"""
    data: str
    evaluations: Mapping[int, Evaluation]
    """seed -> evaluation"""

    def accuracy(self, method: str, category: str | None = None) -> Mean | None:
        """Return the mean accuracy of a method over the seeds: of a category, or of all (mean over categories)."""
        found = self.evaluations.values()
        if category is None:
            return mean_of([e.mean[method] for e in found])
        return mean_of([e.per_category[method][category] for e in found if category in e.per_category[method]])

    def table(self) -> str:
        """Return the table as Markdown: what was trained, then one row per category and the mean."""
        first, train = next(iter(self.evaluations.values())), self.config.train
        methods = list(first.mean)
        seeds = ", ".join(map(str, self.evaluations))
        decode = ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(first.decode).items())
        rows = [["category", *methods], ["---"] * (1 + len(methods))]
        for category in [*first.per_category[MODEL], None]:
            cells = [with_interval(self.accuracy(MODEL, category))]
            plain = [self.accuracy(method, category) for method in methods if method != MODEL]
            cells += [f"{100 * value.mean:.1f}" if value else "-" for value in plain]
            rows.append([shortened(category or "mean"), *cells])
        return "\n".join(
            [
                f"# {self.name}: accuracy on {first.split}, in per cent",
                "",
                f"{len(self.evaluations)} trainings, seeds {seeds}: {train.epochs} epochs of {train.steps_per_epoch} "
                f"steps on {self.config.data.train_split}, {self.config.model.backbone} at "
                f"{self.config.data.image_size} pixels.",
                f"{first.pairs} {first.split} pairs of {self.data}; {decode}.",
                f"{MODEL}: mean over the seeds ± half its 95 % interval (Student's t). The others train nothing.",
                "",
                *("| " + " | ".join(row) + " |" for row in rows),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        first = next(iter(self.evaluations.values()))
        categories = {
            method: {name: _plain(self.accuracy(method, name)) for name in first.per_category[method]}
            for method in first.mean
        }
        return {
            "name": self.name,
            "data": self.data,
            "split": first.split,
            "pairs": first.pairs,
            "decode": dataclasses.asdict(first.decode),
            "seeds": {seed: evaluation.mean[MODEL] for seed, evaluation in self.evaluations.items()},
            "per_category": categories,
            "mean": {method: _plain(self.accuracy(method)) for method in first.mean},
        }


def _plain(value: Mean | None) -> dict[str, Any] | None:
    return dataclasses.asdict(value) | {"interval": value.interval} if value is not None else None


def evaluate_seeds(
    directory: Path,
    trainings: Sequence[Path],
    *,
    data: str | Path | None,
    split: str,
    decode: Mapping[str, Any] | None = None,
) -> Seeds:
    """Evaluate trainings, and write the table of their means.

    Args:
        directory: where the table is written; its name is the table's.
        trainings: their folders, at least one.
        data: the Arrow data set, a folder or an address; None: data/NAME of the trainings.
        split: val or test.
        decode: decode.* keys and values, instead of those of the checkpoints.

    Raises:
        UserError: a training is not finished, two have one seed, or they differ in more than the seed.
    """
    trained = _same_but_for_the_seed(trainings)
    config = next(iter(trained.values()))[1]
    given = data or f"data/{config.data.name}"
    identity = ready_data(given, []).identity
    evaluations = {}
    for seed, (folder, _) in sorted(trained.items()):
        evaluations[seed] = _evaluated(folder, given, identity, split, decode or {})
        log.info(f"seed {seed}: {evaluations[seed].mean[MODEL]:.1%} on {split} ({folder / BEST})")
    seeds = Seeds(name=directory.resolve().name, config=config, data=str(given), evaluations=evaluations)
    with atomic_write(directory / seeds_table(split)) as file:
        file.write((seeds.table() + "\n").encode())
    return seeds


def _same_but_for_the_seed(folders: Sequence[Path]) -> dict[int, tuple[Path, Config]]:
    """Return seed -> (folder, configuration). Raises UserError as `evaluate_seeds` does."""
    found: dict[int, tuple[Path, Config]] = {}
    for folder in folders:
        config = load_config(folder / CONFIG)
        first, reference = next(iter(found.values()), (folder, config))
        alike = [to_flat(comparable(with_seed(c, 0))) for c in (reference, config)]
        if different := differences(*alike):
            raise UserError(
                f"{folder}: differs from {first} in more than the seed ({different.replace(' in it', ' there')})"
            )
        seed, epochs = config.train.seed, len(read_metrics(folder))
        if seed in found:
            raise UserError(f"{folder}: has the seed of {found[seed][0]}, {seed}; remove one of them")
        if epochs < config.train.epochs or not (folder / BEST).is_file():
            raise UserError(
                f"{folder}: has {epochs} of {config.train.epochs} epochs; continue its --train with --resume first"
            )
        found[seed] = folder, config
    return found


def _evaluated(folder: Path, data: str | Path, identity: str, split: str, decode: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation of a training: the one kept in its folder, if it is of the same weights and data."""
    path = folder / evaluation_file(split)
    of = {"weights": record(folder / BEST).sha256, "data_set": identity, "set": dict(decode)}
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept["of"] == of:
            return Evaluation.from_dict(kept["evaluation"])
    evaluation = evaluate_checkpoint(folder / BEST, data=data, split=split, decode=decode)
    write_json(path, {"of": of, "evaluation": dataclasses.asdict(evaluation)})
    return evaluation

"""One recipe, trained several times with different seeds: its accuracy by category, as the mean over the seeds.

The trainings are folders below one folder, in any order: `--train NAME --seed N --results FOLDER/N` makes them. Each is
evaluated once, and its result kept beside its weights, so that the same command again reads no split twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.bootstrap import MEAN, photographs, standard_errors
from nmt.config import Config, comparable, load_config, to_flat
from nmt.data.store.ready import ready_data
from nmt.errors import UserError
from nmt.inference.evaluate import Evaluation, evaluate_pairs
from nmt.inference.pck import ALPHAS, measure
from nmt.io.file_record import record
from nmt.io.files import atomic_write, write_json
from nmt.io.table import shortened
from nmt.pair_results import MODEL
from nmt.settings import differences
from nmt.training.files import BEST, CONFIG
from nmt.training.history import read_metrics
from tune.evidence.by_pair import mean_results
from tune.evidence.photographs import SEEDS_ALONE, half_interval
from tune.evidence.readings import note_reading
from tune.evidence.repeated import with_seed
from tune.results.layout import evaluation_file, pairs_file, seeds_table
from tune.results.log import log
from tune.results.statistics import Mean, mean_of


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Evaluations of trainings that differ in the seed alone."""

    name: str
    config: Config
    """configuration of the first training"""
    data: str
    evaluations: Mapping[int, Evaluation]
    """seed -> evaluation"""
    errors: Mapping[str, float] = field(default_factory=dict)
    """category, or MEAN -> standard error over photographs of the matcher's mean over the seeds; empty where a training
    has kept no results by pair"""
    photographs: Mapping[str, int] = field(default_factory=dict)
    """the same -> number of photographs"""
    pck_errors: Mapping[str, float] = field(default_factory=dict)
    """alpha -> standard error over photographs of the matcher's PCK per point; empty as `errors`"""

    def accuracy(self, method: str, category: str | None = None) -> Mean | None:
        """Return the mean accuracy of a method over the seeds: of a category, or of all (mean over categories)."""
        found = self.evaluations.values()
        if category is None:
            return mean_of([e.mean[method] for e in found])
        return mean_of([e.per_category[method][category] for e in found if category in e.per_category[method]])

    def half(self, category: str | None = None) -> float | None:
        """Return half of the 95 % interval of the matcher's mean, over seeds and photographs where those are known."""
        mean, column = self.accuracy(MODEL, category), category or MEAN
        if mean is None or column not in self.errors:
            return mean.interval if mean is not None else None
        return half_interval(mean, self.errors[column], self.photographs[column])

    def shown(self, method: str, category: str | None = None) -> str:
        """Format a mean over the seeds, in per cent, with half of its interval if it is that of the matcher."""
        mean = self.accuracy(method, category)
        half = self.half(category) if method == MODEL else None
        return "-" if mean is None else f"{100 * mean.mean:.1f}" + (f" ± {100 * half:.1f}" if half is not None else "")

    def pck(self, method: str, alpha: str, *, per_image: bool = False) -> Mean | None:
        """Return the mean PCK of a method over the seeds; None where an evaluation has none."""
        found = [evaluation.pck for evaluation in self.evaluations.values()]
        known = [pck.per_image if per_image else pck.per_point for pck in found if pck is not None]
        return mean_of([by_method[method][alpha] for by_method in known]) if len(known) == len(found) else None

    def pck_half(self, alpha: str) -> float | None:
        """Return half of the 95 % interval of the matcher's PCK per point, as `half`."""
        mean, error = self.pck(MODEL, alpha), self.pck_errors.get(alpha)
        if mean is None or error is None:
            return mean.interval if mean is not None else None
        return half_interval(mean, error, self.photographs[MEAN])

    def pck_rows(self) -> list[list[str]]:
        """Return PCK in per cent: the names of the columns, then a row a method; empty where there is none."""
        alphas = [f"{alpha:g}" for alpha in ALPHAS]
        if self.pck(MODEL, alphas[0]) is None:
            return []
        rows = [["PCK@alpha, per", *(f"{kind} {alpha}" for kind in ("point", "image") for alpha in alphas)]]
        for method in next(iter(self.evaluations.values())).mean:
            cells = []
            for per_image, alpha in itertools.product((False, True), alphas):
                mean = self.pck(method, alpha, per_image=per_image)
                half = self.pck_half(alpha) if method == MODEL and not per_image else None
                shown = "-" if mean is None else f"{100 * mean.mean:.1f}"
                cells.append(shown + (f" ± {100 * half:.1f}" if half is not None else ""))
            rows.append([method, *cells])
        return rows

    @property
    def note(self) -> str:
        """Say what the intervals are over."""
        if not self.errors:
            return f"Seeds alone (Student's t): {SEEDS_ALONE.partition(': ')[2]}."
        return f"Over the seeds and the {self.photographs[MEAN]} photographs of the pairs together."

    def table(self) -> str:
        """Return the table as Markdown: what was trained, then one row per category and the mean."""
        first, train = next(iter(self.evaluations.values())), self.config.train
        methods = list(first.mean)
        seeds = ", ".join(map(str, self.evaluations))
        decode = ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(first.decode).items())
        rows = [["category", *methods], ["---"] * (1 + len(methods))]
        rows += [
            [shortened(category or "mean"), *(self.shown(method, category) for method in methods)]
            for category in [*first.per_category[MODEL], None]
        ]
        return "\n".join(
            [
                f"# {self.name}: accuracy on {first.split}, in per cent",
                "",
                f"{len(self.evaluations)} trainings, seeds {seeds}: {train.epochs} epochs of {train.steps_per_epoch} "
                f"steps on {self.config.data.train_split}, {self.config.model.backbone} at "
                f"{self.config.data.image_size} pixels.",
                f"{first.pairs} {first.split} pairs of {self.data}; {decode}.",
                f"{MODEL}: mean over the seeds ± half its 95 % interval. {self.note} The others train nothing.",
                "",
                *markdown(rows),
                *(["", *markdown([pck[0], ["---"] * len(pck[0]), *pck[1:]])] if (pck := self.pck_rows()) else []),
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
            "pck": {
                method: {
                    kind: {f"{a:g}": _plain(self.pck(method, f"{a:g}", per_image=kind == "per_image")) for a in ALPHAS}
                    for kind in ("per_point", "per_image")
                }
                for method in first.mean
            },
            "pck_interval_over_photographs": {alpha: self.pck_half(alpha) for alpha in self.pck_errors},
            "photographs": self.photographs.get(MEAN),
            "interval_over_photographs": {
                column: self.half(None if column == MEAN else column) for column in self.errors
            },
        }


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return ["| " + " | ".join(row) + " |" for row in rows]


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
    ready = ready_data(given, [])
    of = {seed: _identity(folder, ready.identity, decode or {}) for seed, (folder, _) in trained.items()}
    kept = {seed: _kept(folder / evaluation_file(split), of[seed]) for seed, (folder, _) in trained.items()}
    fresh = [trained[seed][0] for seed, evaluation in kept.items() if evaluation is None]
    if split == "test" and ready.has_test:
        note_reading(ready.folder, directory.resolve().name, fresh)  # first: a job that is killed has read it too
    evaluations = {}
    for seed, (folder, _) in sorted(trained.items()):
        evaluations[seed] = kept[seed] or _evaluated(folder, given, split, decode or {}, of[seed])
        log.info(f"seed {seed}: {evaluations[seed].mean[MODEL]:.1%} on {split} ({folder / BEST})")
    joined = mean_results({folder: evaluations[seed].mean[MODEL] for seed, (folder, _) in trained.items()}, split)
    errors = standard_errors(joined) if joined else {}
    seeds = Seeds(
        name=directory.resolve().name,
        config=config,
        data=str(given),
        evaluations=evaluations,
        errors=errors.get(MODEL, {}),
        photographs=photographs(joined) if joined else {},
        pck_errors={
            f"{alpha:g}": errors[name][MEAN]
            for alpha in ALPHAS
            if (name := measure(MODEL, alpha)) in errors and MEAN in errors[name]
        },
    )
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


def _identity(folder: Path, identity: str, decode: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an evaluation of a training depends on."""
    return {"weights": record(folder / BEST).sha256, "data_set": identity, "set": dict(decode)}


def _kept(path: Path, of: Mapping[str, Any]) -> Evaluation | None:
    """Return the evaluation in a file; None if there is none, or of other weights, data or settings."""
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept["of"] == of:
            return Evaluation.from_dict(kept["evaluation"])
    return None


def _evaluated(
    folder: Path, data: str | Path, split: str, decode: Mapping[str, Any], of: Mapping[str, Any]
) -> Evaluation:
    """Evaluate a training, and keep the result and what was counted by pair in its folder."""
    evaluation, by_pair = evaluate_pairs(folder / BEST, data=data, split=split, decode=decode)
    by_pair.save(folder / pairs_file(split))
    write_json(folder / evaluation_file(split), {"of": of, "evaluation": dataclasses.asdict(evaluation)})
    return evaluation

"""Ablations: named variants of one configuration x seeds, and a table of what each variant gains or loses.

There is one TOML file per ablation, beside the search spaces. It has `[base]`, then `[variants]`: each variant lists
the configuration keys that it changes ("no spline" = { "model.spline" = false }). The first variant is the reference of
the others. `[search]` holds the number of seeds, `[resources]` the resources of a training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nmt.config import Config, flatten, to_dict, with_overrides
from nmt.errors import UserError
from nmt.io.files import atomic_write, write_json
from nmt.io.table import aligned
from nmt.recipes import RecipeFile, read_recipe
from nmt.settings import setting
from nmt.training.history import F1_METRIC, METRIC
from tune.driver.identity import check_data_set, say_nothing_to_resume, with_data_set
from tune.evidence.measures import measured, measures_table
from tune.evidence.photographs import (
    SEEDS_ALONE,
    Spread,
    difference_over_both,
    difference_shown,
    is_over_both,
    mean_shown,
    smallest_found,
    spreads_from_dict,
)
from tune.evidence.repeated import (
    RESUME,
    Repeated,
    Repetition,
    Variant,
    check_all_ended,
    check_one_worker,
    in_ray,
    repeated_from_dict,
)
from tune.results.commands import tensorboard
from tune.results.layout import ABLATED, DEFINITION, RUNS, SPACE, TRIALS
from tune.results.log import kept_in, log
from tune.results.statistics import mean_of
from tune.results.table import percent, points
from tune.spaces.parameter import NOT_SEARCHABLE
from tune.spaces.rules import check_validates
from tune.spaces.settings import Resources, check_resources, check_table, keep_setting


@dataclass(frozen=True, kw_only=True)
class SeedSettings:
    """The `[search]` table of an ablation."""

    seeds: int = setting(5, "trainings of each variant", low=2)
    keep: str = keep_setting()


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """An ablation as its file defines it, checked."""

    name: str
    description: str
    base: Config
    variants: tuple[Variant, ...]
    """the first one is the reference"""
    seeds: tuple[int, ...]
    resources: Resources
    keep: str
    """the weights that an ended training keeps: best or all"""
    text: str
    """the TOML file as given"""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as search.json holds them."""
        return {
            "name": self.name,
            "description": self.description,
            "base": to_dict(self.base),
            "variants": {v.name: to_dict(v.config) for v in self.variants},
            "seeds": list(self.seeds),
            "resources": asdict(self.resources),
        }


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """The results of an ablation: the content of ablation.json."""

    name: str
    description: str
    data: str
    epochs: int
    seeds: tuple[int, ...]
    variants: tuple[Repeated, ...]
    photographs: Mapping[str, Spread] = field(default_factory=dict)
    """variant -> its standard errors over validation photographs; without those that kept no results by pair"""
    measures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """variant -> measure -> values on val, one a seed; see tune/evidence/measures.py"""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the differences to the first variant."""
        reference, *others = self.variants
        return {
            "name": self.name,
            "description": self.description,
            "data": self.data,
            "epochs": self.epochs,
            "seeds": list(self.seeds),
            "variants": [reference.to_dict(), *(v.to_dict(reference) | self._over_both(v) for v in others)],
            "photographs": {name: asdict(spread) for name, spread in self.photographs.items()},
            "measures": self.measures,
        }

    def _over_both(self, variant: Repeated) -> dict[str, Any]:
        """Return the difference of a variant over seeds and photographs, as a key of its own beside the seeds'."""
        found = difference_over_both(variant, self.variants[0], self.photographs.get(variant.name))
        return {"difference_over_photographs": found.to_dict() if found else None}


def load_ablated(path: Path) -> Ablated:
    """Read an ablation.json. Raises UserError if it is something else."""
    try:
        content = json.loads(path.read_text())
        content["seeds"] = tuple(content["seeds"])
        content["photographs"] = spreads_from_dict(content.get("photographs", {}))  # not in an earlier version's file
        return Ablated(**content | {"variants": tuple(map(repeated_from_dict, content["variants"]))})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the table of an ablation ({error})") from error


def load_ablation(
    given: str | Path | RecipeFile,
    overrides: Mapping[str, Any] | None = None,
    *,
    seeds: int | None = None,
    first_seed: int | None = None,
) -> Ablation:
    """Read an ablation and check all of it.

    Args:
        given: path of a TOML file, its name in search_spaces/, or the file as read already.
        overrides: configuration keys to change in the base, and so in every variant that does not set them (--set).
        seeds: trainings of each variant, instead of the file's.
        first_seed: first training seed, instead of the base's train.seed; the others count up from it.

    Raises:
        UserError: anything wrong in the file: what, where, and what would be right.
    """
    file = given if isinstance(given, RecipeFile) else read_recipe(given)
    source, tables = file.source, file.tables
    if "space" in tables:
        raise UserError(f"{source}: [space] and [variants] in one file: a search and an ablation are two")
    base = with_overrides(file.base(), overrides or {}, source="--set")
    check_validates(base, source)
    search = check_table(SeedSettings, tables.get("search", {}), f"{source}: [search]")
    if seeds is not None:
        search = replace(search, seeds=check_table(SeedSettings, {"seeds": seeds}, "--seeds").seeds)
    resources = check_resources(tables.get("resources", {}), f"{source}: [resources]")
    check_one_worker(resources, source)
    first = base.train.seed if first_seed is None else first_seed
    return Ablation(
        name=file.name,
        description=file.description,
        base=base,
        variants=_variants(base, tables["variants"], f"{source}: [variants]"),
        seeds=tuple(range(first, first + search.seeds)),
        resources=resources,
        keep=search.keep,
        text=file.text,
    )


def _variants(base: Config, given: Mapping[str, Any], source: str) -> tuple[Variant, ...]:
    """Return the variants in the order of the file. Raises UserError if two of them are the same."""
    if len(given) < 2:
        raise UserError(f"{source}: at least two are needed, the first to compare with, but got {len(given)}")
    found: list[Variant] = []
    for name, changes in given.items():
        variant = _variant(base, name, changes, source)
        for other in found:
            if other.config == variant.config:
                raise UserError(f"{source}: {other.name!r} and {name!r} are the same configuration; leave one out")
            if other.slug == variant.slug:
                raise UserError(f"{source}: {other.name!r} and {name!r} are too alike for two directories; rename one")
        found.append(variant)
    return tuple(found)


def _variant(base: Config, name: str, changes: Any, source: str) -> Variant:
    where = f"{source} {name!r}"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        raise UserError(f"{where}: a name needs a letter or a digit")
    if not isinstance(changes, Mapping):
        raise UserError(f'{where} must be a table of the keys it changes, {{ "model.spline" = false }}')
    flat = flatten(changes, source=where)
    for key in flat:
        if key in NOT_SEARCHABLE:
            raise UserError(f"{where}: {key} must be the same for all variants; set it in [base]")
    return Variant(name=name, slug=slug, config=with_overrides(base, flat, source=where))


def run_ablation(
    ablation: Ablation, *, data: str | Path, results: str | Path = "results", resume: bool = False
) -> Ablated:
    """Train every variant with every seed, in `results`/NAME; print and return the table.

    Writes search.toml, search.json, runs/VARIANT-sSEED/ (the files of a training) and ablation.json there.

    Raises:
        UserError: `results`/NAME holds something else, or an error of `Repetition`.
        FailedError: some trainings failed, which --resume trains again; the others are in the table.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the ablation can be resumed.
    """
    from tune.evidence.by_pair import spreads

    directory = Path(results) / ablation.name
    _check_results(directory, resume=resume)
    if resume:
        say_nothing_to_resume(directory, ablation.name)
    repetition = Repetition(
        directory=directory,
        data=data,
        decode_grid=(),
        resources=ablation.resources,
        keep=ablation.keep,
        val_f1=any(shows_unmatched(variant.config) for variant in ablation.variants),
    )
    ready = repetition.check(ablation.variants, ablation.seeds)
    check_data_set(directory, ready)
    with in_ray(directory, again=RESUME), kept_in(directory):
        with atomic_write(directory / SPACE) as file:
            file.write(ablation.text.encode())
        write_json(directory / DEFINITION, with_data_set(ablation.to_dict(), ready))
        reference, *others = repetition.train(ablation.variants, ablation.seeds)
        ablated = Ablated(
            name=ablation.name,
            description=ablation.description,
            data=str(data),
            epochs=ablation.base.train.epochs,
            seeds=ablation.seeds,
            variants=(reference, *others),
            photographs=spreads(directory, "val", reference, others),
            measures=measured(directory, "val", (reference, *others)),
        )
        write_json(directory / ABLATED, ablated.to_dict())
        log.info("\n" + render(ablated, directory))
    check_all_ended(ablated.variants, again=RESUME)
    return ablated


def shows_unmatched(config: Config) -> bool:
    """True if a training sees keypoints that have no partner."""
    return config.outliers_from is not None or config.data.pairs == "union"


def _check_results(directory: Path, *, resume: bool) -> None:
    """Raise UserError if `directory` is not free, or with `resume` holds no ablation."""
    definition = directory / DEFINITION
    if not definition.is_file():
        if (directory / RUNS).exists() or (directory / TRIALS).exists():
            raise UserError(f"{directory} exists and holds no ablation; choose another --results")
        return
    if not resume:
        raise UserError(
            f"{directory} already holds an ablation; continue it with --resume, or choose another --results"
        )


def render(ablated: Ablated, directory: Path) -> str:
    """Return the report: the table, how to read it, and the commands to run next."""
    title = f"Ablation {ablated.name}" + (f": {ablated.description}" if ablated.description else "")
    reference, seeds = ablated.variants[0], ", ".join(map(str, ablated.seeds))
    over = "seeds and photographs" if ablated.photographs else "seeds alone"
    head = (
        f"{title}\n{len(ablated.variants)} variants, {ablated.epochs} epochs, seeds {seeds}; {METRIC}: mean ± standard "
        f"error over {over}\n"
        f"differences to {reference.name}, paired by seed, with 95 % intervals over {over}, in points"
    )
    with_f1 = any(run.f1 is not None for variant in ablated.variants for run in variant.runs)
    rows = [["variant", METRIC, f"to {reference.name}", "", *([F1_METRIC] if with_f1 else []), "best epoch", "seconds"]]
    rows += [_row(variant, ablated, with_f1=with_f1) for variant in ablated.variants]
    failures = [line for variant in ablated.variants for line in variant.failures]
    notes = "\n".join(
        [
            "noise: the interval includes 0, so these trainings show no difference",
            *reading(ablated),
            f"Of {len(ablated.variants) - 1} comparisons that are all ties, one in twenty would still leave out 0.",
        ]
    )
    measures = measures_table({"val": ablated.measures})
    parts = [head, "\n".join([aligned(rows, left=1), *failures]), notes, measures, _next(directory)]
    return "\n\n".join(part for part in parts if part)


def reading(ablated: Ablated) -> list[str]:
    """Return what to know of the intervals: where they are over seeds alone, and what they could have shown."""
    reference, *others = ablated.variants
    lines = []
    if any(v.accuracy and not is_over_both(v, reference, ablated.photographs) for v in ablated.variants):
        lines.append(SEEDS_ALONE)
    found = smallest_found(reference, others, ablated.photographs)
    if found is not None:
        lines.append(
            f"Power: with {len(ablated.seeds)} seeds and the noise measured here, a difference of {100 * found:.1f} "
            "points is found in 80 % of cases."
        )
    return lines


def _row(variant: Repeated, ablated: Ablated, *, with_f1: bool) -> list[str]:
    reference, known = ablated.variants[0], ablated.photographs
    difference = difference_shown(variant, reference, known) if variant is not reference else None
    epochs = [r.epoch for r in variant.runs if r.epoch is not None]
    marks = ["noise"] if difference is not None and not difference.separated else []
    if known and variant.accuracy and not is_over_both(variant, reference, known):
        marks.append("seeds alone")
    return [
        variant.name,
        percent(mean_shown(variant, known)),
        "" if variant is reference else points(difference),
        ", ".join(marks),
        *([percent(mean_of([run.f1 for run in variant.runs if run.f1 is not None]))] if with_f1 else []),
        f"{sum(epochs) / len(epochs):.1f}" if epochs else "-",
        f"{sum(r.seconds for r in variant.runs) / len(variant.runs):.1f}",
    ]


def _next(directory: Path) -> str:
    return f"Next:\n  {tensorboard(directory / RUNS)}  # the curves of all trainings"

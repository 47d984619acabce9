"""Two fidelities of one training: the head on stored features (cheap), and end to end on images (what counts).

A search with `fidelity = ["features", "images"]` explores on the first and trains its best on the second: two ordinary
searches, `exploration` and `final`, which tune.stages runs. What features cannot tell, because they never read it
(`without_effect`), and what they tell of the rest: measured on real photographs by tests/bench/fidelity.py, whose
results lie beside this file. Imports neither Ray nor torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmt.config import Config, flatten, with_overrides
from nmt.errors import UserError
from nmt.io.files import write_json
from tune.parameter import NOT_SEARCHABLE

if typing.TYPE_CHECKING:
    from tune.space import Space

LOW, HIGH = FIDELITIES = "features", "images"
NOISE_ONE_SEED, NOISE_PAIRED = 0.02, 0.01
"""smaller differences of accuracy are noise: at one seed, and paired over several"""
MEASURED = Path(__file__).with_name("fidelity.json")

ON_IMAGES = {
    "optim.backbone_lr_scale": "the backbone is frozen there",
    **{
        f"data.{name}": "the images were seen once, unchanged"
        for name in ("erasing", "cutmix", "mixup", "rotation", "mirror", "scale")
    },
}
"""keys that training on features does not read, and why"""

STORED = ("model.backbone", "model.weights", "data.views", *(key for key in ON_IMAGES if key.startswith("data.")))
"""keys that decide which stored features a training reads"""


def without_effect(config: Config, key: str) -> str | None:
    """Why a training of this configuration does not read `key`; None where it does."""
    if config.data.mode == HIGH:
        return "images are drawn anew for each pair" if key == "data.views" else None
    if key.startswith("data.") and config.data.views > 1:
        return None  # the stored views were augmented
    return ON_IMAGES.get(key)


def check_effects(space: Space, source: str) -> None:
    """That every trial reads what is searched. Raises UserError."""
    mode = space.base.data.mode
    other = LOW if mode == HIGH else HIGH
    for parameter in space.parameters:
        why = without_effect(space.base, parameter.key)
        if why is not None:
            raise UserError(
                f"{source}: [space] {parameter.key} has no effect on {mode} ({why}); set it in [base], or search it "
                f'with data.mode = "{other}" alone'
            )
        if mode == LOW and parameter.key in ON_IMAGES and parameter.values is None:
            raise UserError(
                f"{source}: [space] {parameter.key} on {LOW} needs stored views for each of its values: give "
                f"values = [..], and prepare each with --set {parameter.key}=VALUE --views {space.base.data.views}"
            )


@dataclass(frozen=True, kw_only=True)
class Given:
    """A configuration that is not drawn: it comes from another search."""

    origin: str
    """that search and its trial, "features/007" """
    params: dict[str, Any]
    """its searched values"""


def read_fidelity(value: Any, tables: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """The `fidelity` of [search], and that [features] fits to it."""
    if value and (not isinstance(value, list) or tuple(value) != FIDELITIES):
        raise UserError(
            f"{source}: [search] fidelity must be {json.dumps(FIDELITIES)} or left out, but got {json.dumps(value)}"
        )
    if "features" in tables and not value:
        raise UserError(
            f"{source}: [features] says what differs on features: it needs fidelity = {json.dumps(FIDELITIES)}"
        )
    allowed = ("train.epochs",)
    for key in flatten(tables.get("features", {}), source=f"{source}: [features]"):
        if key in NOT_SEARCHABLE and key not in allowed:
            raise UserError(f"{source}: [features] {key} must be the same at both fidelities; set it in [base]")
    return FIDELITIES if value else ()


def exploration(space: Space) -> Space:
    """The first stage: the whole budget, on features, with what the file's [features] changes."""
    base = with_overrides(space.base, {"data.mode": LOW, **space.features}, source="[features]")
    return dataclasses.replace(space, name=LOW, base=base, fidelity=(), features={})


def final(space: Space, chosen: Sequence[Given]) -> Space:
    """The second stage: the default configuration and the chosen ones, on images, stopped early as any.

    The limits of [search] are the exploration's; this stage costs at most the epochs of these trials.
    """
    search = dataclasses.replace(
        space.search, trials=len(chosen) + 1, epochs=0, hours=0.0, gpu_hours=0.0, patience=0, warm_start=""
    )
    base = with_overrides(space.base, {"data.mode": HIGH}, source="fidelity")
    return dataclasses.replace(
        space, name=HIGH, base=base, fidelity=(), features={}, given=tuple(chosen), search=search
    )


def parts(space: Space) -> tuple[Space, ...]:
    """The searches it consists of."""
    return (exploration(space), final(space, ())) if space.fidelity else (space,)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One training of the bench."""

    fidelity: str
    changes: dict[str, Any]
    """what the configuration changes in the base"""
    seed: int
    accuracy: float
    """of the best epoch on validation"""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Rank:
    """How alike two fidelities order configurations."""

    correlation: float
    """Spearman's; NaN where one of them does not order at all"""
    p_value: float
    count: int


def rank_correlation(low: Sequence[float], high: Sequence[float]) -> Rank | None:
    """Of accuracies of the same configurations; None of fewer than three."""
    if len(low) < 3:
        return None
    from scipy.stats import spearmanr

    found = spearmanr(low, high)
    return Rank(correlation=float(found.statistic), p_value=float(found.pvalue), count=len(low))


@dataclass(frozen=True, kw_only=True)
class Order:
    """How one parameter's values, all else equal, compare at both fidelities: pairs of values by what was seen."""

    alike: int
    """both fidelities prefer the same one, by more than noise"""
    reversed: int
    """they prefer different ones, both by more than noise"""
    within_noise: int
    """one fidelity or both do not tell the two apart"""

    @property
    def words(self) -> str:
        if self.reversed:
            return "poorly: the other way round" if not self.alike else "poorly: in part the other way round"
        return "alike" if self.alike else "not told apart"


class Measured:
    """Accuracies of the same configurations at both fidelities."""

    def __init__(self, settings: Mapping[str, Any], rows: Sequence[Measurement]) -> None:
        self.settings, self.rows = dict(settings), tuple(rows)

    @classmethod
    def load(cls, path: Path = MEASURED) -> Measured:
        content = json.loads(path.read_text())
        return cls(content["settings"], [Measurement(**row) for row in content["rows"]])

    def save(self, path: Path) -> None:
        write_json(path, {"settings": self.settings, "rows": [asdict(row) for row in self.rows]})

    def accuracy(self, fidelity: str, changes: Mapping[str, Any]) -> dict[int, float]:
        """By seed."""
        return {r.seed: r.accuracy for r in self.rows if r.fidelity == fidelity and r.changes == changes}

    def configurations(self) -> list[dict[str, Any]]:
        """Those that both fidelities have, in the order of the rows."""
        found: list[dict[str, Any]] = []
        for row in self.rows:
            if row.changes not in found and all(self.accuracy(f, row.changes) for f in (LOW, HIGH)):
                found.append(row.changes)
        return found

    def mean(self, fidelity: str, changes: Mapping[str, Any]) -> float:
        return statistics.fmean(self.accuracy(fidelity, changes).values())

    def rank(self) -> Rank | None:
        """Over all configurations, each at its mean over seeds."""
        low, high = ([self.mean(f, c) for c in self.configurations()] for f in (LOW, HIGH))
        return rank_correlation(low, high)

    def noise(self, fidelity: str) -> float | None:
        """Standard deviation of one training over seeds, what all configurations of a seed share taken out."""
        table = [self.accuracy(fidelity, c) for c in self.configurations()]
        seeds = sorted(set.intersection(*(set(row) for row in table)))
        if len(seeds) < 2 or len(table) < 2:
            return None
        by_seed = {s: statistics.fmean(row[s] for row in table) for s in seeds}
        rest = [
            row[s] - by_seed[s] - statistics.fmean(row[t] - by_seed[t] for t in seeds) for row in table for s in seeds
        ]
        return (sum(r * r for r in rest) / ((len(table) - 1) * (len(seeds) - 1))) ** 0.5

    @property
    def seeds(self) -> dict[str, int]:
        """With how many the base was trained, by fidelity."""
        return {fidelity: len(self.accuracy(fidelity, {})) for fidelity in FIDELITIES}

    @property
    def floor(self) -> float:
        """A smaller difference of accuracy tells nothing."""
        return NOISE_PAIRED if min(self.seeds.values()) > 1 else NOISE_ONE_SEED

    def order(self, key: str) -> Order | None:
        """How the values of one parameter compare, that of the base among them; None where it was not varied alone."""
        alone = [c for c in self.configurations() if not c.keys() - {key}]
        if len(alone) < 2:
            return None
        counts = {"alike": 0, "reversed": 0, "within_noise": 0}
        for one, other in itertools.combinations(alone, 2):
            low, high = (self.mean(f, one) - self.mean(f, other) for f in (LOW, HIGH))
            told = abs(low) >= self.floor and abs(high) >= self.floor
            counts["within_noise" if not told else "alike" if low * high > 0 else "reversed"] += 1
        return Order(**counts)

"""Accuracies of the same configurations trained on features and on images, and how alike the two order them."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmt.io.files import write_json
from tune.results.statistics import Rank, rank_correlation
from tune.spaces.fidelity import FIDELITIES, HIGH, LOW

NOISE_ONE_SEED, NOISE_PAIRED = 0.02, 0.01
"""smaller differences of accuracy are noise: at one seed, and paired over several"""
MEASURED = Path(__file__).with_name("fidelity_table.json")


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

"""The field's other measures of repeated trainings, beside accuracy: PCK, and how they treat keypoints without partner.

Each training leaves them in its folder: of val at its end, of test when that is read (tune/jobs/tasks.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.io.table import aligned, shortened, wrapped
from tune.evidence.photographs import FIELDS
from tune.evidence.repeated import Repeated
from tune.results.layout import figures_file
from tune.results.statistics import Mean, mean_of

Measures = Mapping[str, Mapping[str, Sequence[float]]]
"""configuration -> measure, such as "PCK@0.1" or "union f1" -> its values in [0, 1], one a seed"""

HEAD = "Other measures, means ± their standard errors over the seeds alone, in per cent:"
_NOTE = (
    'PCK: per point, mean over categories. The others: protocol "union", all keypoints of both objects. Confidences '
    "and thresholds are fitted on val, so on val these flatter."
)
_OUTLIERS = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC", "ece": "ECE"}


def measured(directory: Path, split: str, every: Iterable[Repeated]) -> dict[str, dict[str, list[float]]]:
    """Read what trainings have left of a split.

    Args:
        directory: of the repetition.
        split: val or test.
        every: the configurations.

    Returns:
        See `Measures`. A measure that a finished training of a configuration lacks is left out there, as are all of
        trainings of earlier versions.
    """
    found = {}
    for one in every:
        accuracies = {run.directory: getattr(run, FIELDS[split]) for run in one.runs}
        by_seed = [
            _of_training(directory / folder / figures_file(split), accuracy)
            for folder, accuracy in accuracies.items()
            if accuracy is not None
        ]
        shared = [name for name in by_seed[0] if all(name in values for values in by_seed)] if by_seed else []
        if shared:
            found[one.name] = {name: [values[name] for values in by_seed] for name in shared}
    return found


def _of_training(path: Path, accuracy: float) -> dict[str, float]:
    """Return measure -> value; empty where there is no such file, or it is damaged or of another evaluation."""
    from nmt.pair_results import MODEL
    from tune.evidence.by_pair import CLOSE

    try:
        content: dict[str, Any] = json.loads(path.read_text())
        alike = abs(content["accuracy"] - accuracy) <= CLOSE
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    pck, outliers = content.get("pck") or {}, content.get("outliers") or {}
    found = {f"PCK@{alpha}": value for alpha, value in pck.get("per_point", {}).get(MODEL, {}).items()}
    for protocol, figures in outliers.get("figures", {}).items():
        found |= {f"{protocol} {figure}": value for figure, value in figures.items()}
    return found if alike else {}


def measures_table(of: Mapping[str, Measures]) -> str:
    """Return a table with a row for each configuration and split; empty where nothing was measured.

    Args:
        of: val, test or final -> measures.
    """
    if not any(of.values()):
        return ""
    from nmt.data.stream.outliers import UNION
    from nmt.inference.pck import ALPHAS

    table = _table(of, {name: name for name in (f"PCK@{alpha:g}" for alpha in ALPHAS)} | _columns(UNION))
    return f"{HEAD}\n{table}\n{wrapped(_NOTE, indent='  ')}" if table else ""


def protocol_tables(of: Mapping[str, Measures]) -> list[tuple[str, str]]:
    """Return (protocol, table) for each protocol that was measured, with the rows of `measures_table`."""
    from nmt.data.stream.outliers import PROTOCOLS

    return [(protocol, table) for protocol in PROTOCOLS if (table := _table(of, _columns(protocol)))]


def _columns(protocol: str) -> dict[str, str]:
    """Return measure -> heading of a protocol's figures."""
    return {f"{protocol} {figure}": heading for figure, heading in _OUTLIERS.items()}


def _table(of: Mapping[str, Measures], columns: Mapping[str, str]) -> str:
    """Return a table of those measures that some configuration has; empty for none."""
    given = [(split, name, values) for split, known in of.items() for name, values in known.items()]
    shown = {key: heading for key, heading in columns.items() if any(key in values for *_, values in given)}
    if not shown:
        return ""
    rows = [["", "configuration", *shown.values()]]
    for split, name, values in given:
        rows.append([split, shortened(name), *(_cell(mean_of(list(values.get(key, ())))) for key in shown)])
    return aligned(rows, left=2)


def _cell(mean: Mean | None) -> str:
    if mean is None:
        return "-"
    error = f" ±{100 * mean.standard_error:.1f}" if mean.standard_error is not None else ""
    return f"{100 * mean.mean:.1f}{error}"

"""The part of a confirmation's report with intervals over seeds and photographs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nmt.io.table import aligned
from tune.evidence.final import Final
from tune.evidence.photographs import SEEDS_ALONE, Spreads, difference_over_both, interval_over_both
from tune.evidence.repeated import Repeated
from tune.results.table import points

HEAD = "95 % intervals over seeds and photographs together; those above are over the seeds alone:"


def photograph_table(
    default: Repeated, candidates: Sequence[Repeated], final: Final | None, known: Mapping[str, Spreads]
) -> str:
    """Return a table with a row for each configuration and split: accuracy and difference to the default.

    Args:
        known: val, test or final -> configuration -> its standard errors over photographs.
    """
    rows = [["", "configuration", "accuracy, %", "to default, points"]]
    for of, split, reference, others in (
        ("val", "val", default, candidates),
        ("test", "test", default, candidates),
        ("final", "test", final.default if final else default, [final.winner] if final else []),
    ):
        for one in (*others, reference):
            spread = known.get(of, {}).get(one.name)
            if spread is not None:
                low, high = interval_over_both(one, spread, split=split)
                difference = difference_over_both(one, reference, spread, split=split) if one is not reference else None
                shown = points(difference) if difference is not None else ""
                rows.append([of, one.name, f"[{100 * low:.1f}, {100 * high:.1f}]", shown])
    if len(rows) == 1:
        return f"The intervals are over {SEEDS_ALONE}."
    return f"{HEAD}\n{aligned(rows, left=2)}"

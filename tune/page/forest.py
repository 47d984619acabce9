"""Configurations that trained over several seeds: their accuracies, and their differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nmt.io.table import shortened
from tune.evidence.photographs import Spreads, difference_shown, mean_shown
from tune.evidence.repeated import Repeated
from tune.page.figures import BEST, DEFAULT, FAILED, GREY, INK, SOFT, Gallery, Plot, percent_axis
from tune.results.statistics import CONFIDENCE, Difference
from tune.results.table import percent, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forest(
    gallery: Gallery,
    name: str,
    reference: Repeated,
    others: Sequence[Repeated],
    note: str,
    known: Spreads,
    differences: Mapping[str, Difference] | None = None,
) -> Plot:
    """Draw each configuration's accuracy per seed, and its paired difference to the reference with its interval.

    Args:
        name: of the plot.
        known: standard errors over photographs; where there are none, an interval is over seeds alone.
        differences: configuration -> its difference; by default each by itself.
    """
    every = [reference, *others]
    found = differences if differences is not None else differences_of(reference, others, known)

    def fill(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for k, one in enumerate(every):
            values = [run.accuracy for run in one.runs if run.accuracy is not None]
            colour = DEFAULT if one is reference else BEST
            left.scatter(values, [k] * len(values), color=colour, s=20, alpha=0.6, lw=0)
            if one.accuracy is not None:
                left.scatter([one.accuracy.mean], [k], color=colour, marker="|", s=260, linewidths=2.2)
            difference = found.get(one.name) if one is not reference else None
            if difference is not None:
                shade = GREY if not difference.separated else BEST if difference.low > 0 else FAILED
                right.plot([100 * difference.low, 100 * difference.high], [k, k], color=shade, lw=2)
                right.scatter([100 * difference.mean], [k], color=shade, s=42, zorder=3)
        left.set_yticks(range(len(every)), [shortened(one.name) for one in every], color=INK)
        left.set_ylim(len(every) - 0.4, -0.6)
        left.set_xlabel("val/accuracy: each seed, and the mean")
        percent_axis(left, which="x")
        right.axvline(0, color=SOFT, lw=1)
        level = f"{100 * next((d.confidence for d in found.values()), CONFIDENCE):.4g} %"
        right.set_xlabel(f"difference to {shortened(reference.name)}, in points, {level} interval")
        for axes in (left, right):
            axes.grid(visible=False, axis="y")

    return gallery.draw(name, note, fill, height=1.1 + 0.34 * len(every))


def differences_of(reference: Repeated, others: Sequence[Repeated], known: Spreads) -> dict[str, Difference]:
    """Return the difference of each configuration to the reference, each with an interval of its own."""
    each = {one.name: difference_shown(one, reference, known) for one in others}
    return {name: difference for name, difference in each.items() if difference is not None}


def rows(
    reference: Repeated,
    others: Sequence[Repeated],
    known: Spreads,
    winner: Repeated | None = None,
    differences: Mapping[str, Difference] | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of the table beside the plot, the reference first; the arguments are those of `forest`."""
    given = differences if differences is not None else differences_of(reference, others, known)
    found = []
    for one in (reference, *others):
        difference = given.get(one.name) if one is not reference else None
        epochs = [run.epoch for run in one.runs if run.epoch is not None]
        found.append(
            {
                "name": one.name,
                "mark": "reference" if one is reference else "winner" if one is winner else "",
                "accuracy": percent(mean_shown(one, known)),
                "difference": points(difference) if difference is not None else "",
                "noise": difference is not None and not difference.separated,
                "test": percent(one.test_accuracy) if one.test_accuracy is not None else "",
                "epoch": f"{sum(epochs) / len(epochs):.1f}" if epochs else "-",
                "seconds": f"{sum(run.seconds for run in one.runs) / len(one.runs):.1f}",
            }
        )
    return found

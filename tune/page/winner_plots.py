"""Plots of the winner: its accuracy by category beside the default, and at every decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nmt.config import DecodeConfig
from nmt.io.table import shortened
from tune.page.figures import BEST, DEFAULT, INK, Gallery, Plot, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def categories(gallery: Gallery, best: Mapping[str, float], default: Mapping[str, float], name: str) -> Plot:
    """Draw the accuracy of each category of the best and the default configuration, the largest gain first.

    Args:
        best: category -> accuracy; `default` alike.
        name: trial of the best configuration.
    """
    shared = sorted(best.keys() & default.keys(), key=lambda category: (default[category] - best[category], category))

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        lines = range(len(shared))
        for k, category in enumerate(shared):
            axes.plot([default[category], best[category]], [k, k], color="#c9d3e3", lw=4, solid_capstyle="round")
            gain = 100 * (best[category] - default[category])
            right = max(default[category], best[category])
            axes.annotate(
                f"{gain:+.1f}", (right, k), (9, 0), textcoords="offset points", va="center", color=INK, fontsize=9
            )
        axes.scatter([default[c] for c in shared], lines, color=DEFAULT, s=38, label="default", zorder=3)
        axes.scatter([best[c] for c in shared], lines, color=BEST, s=38, label=f"best: trial {name}", zorder=3)
        axes.set_yticks(lines, [shortened(category) for category in shared])
        axes.set_ylim(len(shared) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
        axes.set_xlabel("val/accuracy")
        percent_axis(axes, which="x")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    note = "Validation accuracy of each category, both at their best epoch and decoding; the difference in points."
    return gallery.draw("categories", note, fill, height=1.1 + 0.27 * len(shared))


def decodings(gallery: Gallery, accuracy: Mapping[DecodeConfig, float], where: str) -> Plot:
    """Draw the accuracy over Sinkhorn iterations and epsilon, one map per assignment.

    Args:
        where: what was matched, for the note.
    """
    assignments = list(dict.fromkeys(setting.assignment for setting in accuracy))
    rows = sorted({setting.epsilon for setting in accuracy})
    columns = sorted({setting.sinkhorn_iterations for setting in accuracy})
    low, high = min(accuracy.values()), max(accuracy.values())

    def fill(figure: Figure) -> None:
        for k, assignment in enumerate(assignments, start=1):
            axes = figure.add_subplot(1, len(assignments), k)
            table = _table(accuracy, rows, columns, assignment)
            axes.imshow(table, cmap="YlGnBu", vmin=low, vmax=max(high, low + 1e-6), aspect="auto")
            for i, line in enumerate(table):
                for j, value in enumerate(line):
                    if value == value:  # a decoding that was not tried is NaN
                        top = value == high
                        colour = "white" if value > low + 0.6 * (high - low) else INK
                        weight = "bold" if top else "normal"
                        axes.text(j, i, f"{100 * value:.1f}", ha="center", va="center", color=colour, weight=weight)
            axes.set_xticks(range(len(columns)), [str(column) for column in columns])
            axes.set_yticks(range(len(rows)), [f"{row:g}" for row in rows])
            axes.set_xlabel("Sinkhorn iterations")
            axes.set_ylabel("ε", rotation=0, labelpad=10)
            axes.set_title(f"assignment {assignment}")
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)

    note = f"Accuracy in per cent at every decoding, {where}. The highest is bold. A decoding costs no training."
    width = min(4.6 * len(assignments) + 1.4, 11.0)
    return gallery.draw("decodings", note, fill, height=1.2 + 0.42 * len(rows), width=width)


def _table(
    accuracy: Mapping[DecodeConfig, float], rows: Sequence[float], columns: Sequence[int], assignment: str
) -> list[list[float]]:
    """Return the accuracies of an assignment, a row per epsilon."""
    at = {(s.epsilon, s.sinkhorn_iterations): value for s, value in accuracy.items() if s.assignment == assignment}
    return [[at.get((epsilon, iterations), float("nan")) for iterations in columns] for epsilon in rows]

"""Plots of how a search went: its history, the curves of its trials, its rungs, and its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune.page.figures import (
    BEST,
    DEFAULT,
    FAILED,
    GREY,
    INK,
    SOFT,
    Gallery,
    Plot,
    percent_axis,
    rung_colours,
    whole_numbers,
)
from tune.page.timeline import Span
from tune.page.trials import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"complete": "o", "stopped early": "v", "paused": "v", "running": "s"}
"""state -> marker; failed trials are crosses at the bottom"""
FEW = 60
"""curves and bars that are told apart by name"""


def history(gallery: Gallery, trials: Sequence[Shown], best: str | None) -> Plot:
    """Draw the best accuracy of each trial in the order they began, and the best complete one so far."""

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        valued = [t for t in trials if t.best is not None]
        bottom = min((t.best for t in valued if t.best is not None), default=0.0)
        for state, marker in MARKERS.items():
            points = [t for t in valued if t.state == state]
            if points:
                places = [t.number for t in points], [t.best or 0.0 for t in points]
                face = BEST if state == "complete" else "white"
                colour = BEST if state in ("complete", "running") else GREY
                axes.scatter(*places, marker=marker, s=34, c=face, edgecolors=colour, label=state)
        failed = [t.number for t in trials if t.state == "failed"]
        if failed:
            axes.scatter(failed, [bottom] * len(failed), marker="x", c=FAILED, s=34, label="failed (no result)")
        numbers, tops, top = list[int](), list[float](), 0.0
        for trial in (t for t in valued if t.state == "complete" and t.best is not None):
            top = max(top, trial.best or 0.0)
            numbers.append(trial.number)
            tops.append(top)
        if numbers:
            axes.step(
                [*numbers, trials[-1].number], [*tops, top], where="post", color=BEST, lw=1.3, label="best so far"
            )
        _mark(axes, trials, best)
        axes.set_xlabel("trial")
        axes.set_ylabel("val/accuracy")
        whole_numbers(axes)
        percent_axis(axes)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    note = (
        "Each trial at its best epoch, in the order in which the trials began. A trial that was stopped early has had "
        "fewer epochs, so it is no rival of a complete one."
    )
    return gallery.draw("history", note, fill, height=3.9)


def _mark(axes: Axes, trials: Sequence[Shown], best: str | None) -> None:
    """Name the default configuration and the winner."""
    for trial in trials:
        name = "best" if trial.id == best else "default" if trial.number == 0 else ""
        if name and trial.best is not None:
            colour = BEST if name == "best" else DEFAULT
            axes.scatter([trial.number], [trial.best], s=90, facecolors="none", edgecolors=colour, linewidths=1.8)
            axes.annotate(
                name, (trial.number, trial.best), (0, 8), textcoords="offset points", ha="center", color=colour
            )


def curves(gallery: Gallery, trials: Sequence[Shown], rungs: list[int], best: str | None) -> Plot:
    """Draw the accuracy of each trial over its epochs."""
    colours = rung_colours(rungs)

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        many = len(trials) > FEW
        named = [t for t in trials if t.id == best or t.number == 0]
        for trial in (t for t in trials if t.values and t not in named):
            epochs, values = zip(*sorted(trial.values.items()), strict=True)
            axes.plot(
                epochs,
                values,
                color=colours.get(trial.rung, GREY),
                lw=0.7 if many else 1.2,
                alpha=0.6 if many else 0.9,
                marker="." if len(epochs) == 1 or not many else None,
                ms=4,
            )
        for trial in named:
            if trial.values:
                epochs, values = zip(*sorted(trial.values.items()), strict=True)
                name, colour = ("best", BEST) if trial.id == best else ("default", DEFAULT)
                label = f"{name}: trial {trial.id}"
                axes.plot(epochs, values, color=colour, lw=2.2, marker=".", label=label)
        for rung in rungs:
            axes.plot([], [], color=colours[rung], lw=2, label=f"reached epoch {rung}")
            axes.axvline(rung, color=SOFT, lw=0.7, ls=":")
        axes.set_xlabel("epoch")
        axes.set_ylabel("val/accuracy")
        whole_numbers(axes)
        percent_axis(axes)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    note = "Validation accuracy of each trial after each epoch. Dotted lines are the rungs, where trials are compared."
    return gallery.draw("curves", note, fill, height=3.9)


def survival(gallery: Gallery, rows: Sequence[tuple[int, int, int, int]]) -> Plot:
    """Draw how many trials reached each rung, and how many of them went on.

    Args:
        rows: rung, trials that reached it, those that trained further, those that ended or wait there.
    """

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        labels = [f"epoch {rung}" for rung, *_ in rows]
        further, there = [row[2] for row in rows], [row[3] for row in rows]
        axes.barh(labels, further, color=BEST, label="trained further", height=0.6)
        axes.barh(labels, there, left=further, color=GREY, label="ended or wait there", height=0.6)
        for k, (_, reached, *_) in enumerate(rows):
            axes.annotate(f"{reached}", (reached, k), (5, 0), textcoords="offset points", va="center", color=INK)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xlabel("trials that reached the rung")
        whole_numbers(axes)
        axes.margins(x=0.06)
        axes.legend(loc="lower right")

    note = "How many trials reached each rung, and how many trained further. The last bar has the full budget."
    return gallery.draw("rungs", note, fill, height=0.9 + 0.45 * len(rows), width=5.2)


def timeline(gallery: Gallery, found: Sequence[Span], trials: Sequence[Shown], rungs: list[int]) -> Plot:
    """Draw when each trial trained, one line per trial."""
    colours, states = rung_colours(rungs), {t.id: t.state for t in trials}
    order = sorted({span.trial for span in found}, key=int)
    longest = max(span.end for span in found)
    unit, seconds = next(
        (u, s) for u, s in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)) if longest >= 2 * s or s == 1.0
    )

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        lines = {trial: k for k, trial in enumerate(order)}
        for rung in rungs:
            spans = [span for span in found if span.last == rung]
            if spans:
                axes.barh(
                    [lines[s.trial] for s in spans],
                    [(s.end - s.start) / seconds for s in spans],
                    left=[s.start / seconds for s in spans],
                    height=0.7,
                    color=colours[rung],
                    label=f"to epoch {rung}",
                )
        others = [span for span in found if span.last not in rungs]
        if others:
            starts, lasts = [s.start / seconds for s in others], [(s.end - s.start) / seconds for s in others]
            axes.barh([lines[s.trial] for s in others], lasts, left=starts, height=0.7, color=GREY, label="other")
        failed = [s for s in found if states[s.trial] == "failed"]
        axes.scatter([s.end / seconds for s in failed], [lines[s.trial] for s in failed], marker="x", c=FAILED, s=24)
        if len(order) <= FEW:
            axes.set_yticks(range(len(order)), order)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{unit} since the search began")
        axes.set_ylabel("trial")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    note = (
        "When each trial trained. A gap within a line is a pause at a rung. Time before the first bar, and between the "
        "bars, is starting, saving and waiting."
    )
    return gallery.draw("timeline", note, fill, height=min(1.4 + 0.2 * len(order), 7.0))

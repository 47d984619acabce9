"""Plots of the searched keys: their importance, all of them side by side, and each one alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tune.page.figures import BEST, DEFAULT, GREY, INK, SOFT, Gallery, Plot, percent_axis, rung_colours, whole_numbers
from tune.page.trials import Shown, categories, is_log, short_names, word
from tune.results.importance import Importance
from tune.results.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TICKS = 6


def importance(gallery: Gallery, found: Importance) -> Plot:
    """Draw the share of each key with its interval; a key that cannot be told from noise is grey."""

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        for k, influence in enumerate(found.keys):
            colour = BEST if influence.told_from_noise else GREY
            axes.barh(k, influence.share, color=colour, height=0.62, alpha=1.0 if influence.told_from_noise else 0.6)
            axes.plot([influence.low, influence.high], [k, k], color=INK if influence.told_from_noise else SOFT, lw=1.2)
            axes.plot([influence.low, influence.high], [k, k], "|", color=SOFT, ms=7)
            text = f"{influence.share:.0%}" if influence.told_from_noise else "not told from noise"
            axes.annotate(
                text, (influence.high, k), (7, 0), textcoords="offset points", va="center", color=SOFT, fontsize=9
            )
        axes.set_yticks(range(len(found.keys)), [influence.key for influence in found.keys])
        for label, influence in zip(axes.get_yticklabels(), found.keys, strict=True):
            label.set_color(INK if influence.told_from_noise else GREY)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, min(1.0, 1.25 * max(i.high for i in found.keys) + 0.1))
        axes.set_xlabel("share of the differences between trials")
        percent_axis(axes, which="x")

    note = (
        f"How much of the differences between {found.trials} trials each key explains, after epoch {found.epoch}, "
        "which nearly all trials reached, those that were stopped early too. Lines are 95 % intervals (bootstrap over "
        "trials). Grey keys explain no more than they would if the results were shuffled over the trials."
    )
    return gallery.draw("importance", note, fill, height=0.9 + 0.42 * len(found.keys), width=9.0)


class _Scale:
    """Positions of a key's values on an axis from 0 to 1, with a few labelled ticks."""

    def __init__(self, values: Sequence[Any], *, log: bool) -> None:
        self._names = categories(values)
        self._log = log and self._names is None and min(values) > 0
        if self._names is None:
            moved = [self._move(value) for value in values]
            self._low, self._high = min(moved), max(moved)
        self._few = sorted(set(values)) if self._names is None and len(set(values)) <= MOST_TICKS else []

    def _move(self, value: float) -> float:
        return math.log10(value) if self._log else float(value)

    def at(self, value: Any) -> float:
        """Return the position of a value."""
        if self._names is not None:
            return 0.5 if len(self._names) == 1 else self._names.index(word(value)) / (len(self._names) - 1)
        width = self._high - self._low
        return (self._move(value) - self._low) / width if width else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions and labels."""
        if self._names is not None:
            step = max(1, -(-len(self._names) // MOST_TICKS))
            return [(self.at(name), name) for name in self._names[::step]]
        if self._few:
            return [(self.at(value), f"{value:.3g}") for value in self._few]
        places = [self._low + (self._high - self._low) * k / 4 for k in range(5)]
        values = [10**place if self._log else place for place in places]
        return [(k / 4, f"{value:.3g}" if value >= 100 else f"{value:.2g}") for k, value in enumerate(values)]


def parallel(gallery: Gallery, trials: Sequence[Shown], summary: Summary, rungs: list[int], best: str | None) -> Plot:
    """Draw each trial as a line through its values of all searched keys to its accuracy."""
    colours = rung_colours(rungs)
    valued = sorted((t for t in trials if t.best is not None and t.searched), key=lambda t: (t.rung, t.best or 0.0))
    keys = [key for key in summary.space if any(key in t.searched for t in valued)]
    scales = [_Scale([t.searched[key] for t in valued if key in t.searched], log=is_log(key, summary)) for key in keys]
    last, names = _Scale([t.best for t in valued], log=False), short_names(keys)

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        for trial in valued:
            heights = [
                s.at(trial.searched[k]) if k in trial.searched else math.nan for k, s in zip(keys, scales, strict=True)
            ]
            heights.append(last.at(trial.best))
            special = {"color": BEST, "lw": 2.4, "alpha": 1.0, "zorder": 4} if trial.id == best else {}
            if trial.number == 0 and trial.id != best:
                special = {"color": DEFAULT, "lw": 2.0, "alpha": 1.0, "zorder": 4, "ls": "--"}
            plain = {"color": colours.get(trial.rung, GREY), "lw": 0.9, "alpha": 0.35 if len(valued) > 60 else 0.8}
            axes.plot(range(len(heights)), heights, **plain | special)
        for x, scale in enumerate([*scales, last]):
            axes.axvline(x, color=SOFT, lw=0.8)
            for y, text in scale.ticks():
                shown = f"{float(text):.0%}" if scale is last else text
                axes.annotate(
                    shown, (x, y), (-5, 0), textcoords="offset points", ha="right", va="center", fontsize=8, color=SOFT,
                    bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
                )  # fmt: skip
        axes.set_xticks(
            range(len(keys) + 1), [*(names[key].replace("_", "_\n") for key in keys), "val/accuracy"], color=INK
        )
        axes.set_yticks([])
        axes.set_xlim(-0.5, len(keys) + 0.15)
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        for rung in rungs:
            axes.plot([], [], color=colours[rung], lw=2, label=f"reached epoch {rung}")
        axes.plot([], [], color=BEST, lw=2.4, label="best")
        axes.plot([], [], color=DEFAULT, lw=2, ls="--", label="default")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=len(rungs) + 2)

    note = (
        "Each line is a trial, from its values to its accuracy at its best epoch. A line is broken where a key is not "
        "searched in that trial."
    )
    return gallery.draw("parallel", note, fill, height=4.3)


def slices(gallery: Gallery, trials: Sequence[Shown], summary: Summary, rungs: list[int], best: str | None) -> Plot:
    """Draw the accuracy of the trials over each searched key."""
    colours = rung_colours(rungs)
    valued = [t for t in trials if t.best is not None and t.searched]
    keys = [key for key in summary.space if any(key in t.searched for t in valued)]
    names = short_names(keys)
    columns = 3 if len(keys) in (3, 5, 6, 9) else 4  # slices in a row, with few gaps in the last
    lines = -(-len(keys) // columns)

    def fill(figure: Figure) -> None:
        grid = figure.subplots(lines, min(columns, len(keys)), squeeze=False, sharey=True)
        flat: list[Axes] = [axes for row in grid for axes in row]
        for axes in flat[len(keys) :]:
            axes.set_visible(False)
        for axes, key in zip(flat, keys, strict=False):
            _slice(axes, key, [t for t in valued if key in t.searched], summary, colours, best)
            axes.set_title(names[key])
            percent_axis(axes)
        for row in grid:
            row[0].set_ylabel("val/accuracy")

    note = (
        "Accuracy at the best epoch over each searched key. Dark points have trained longer. Blue ring: the best "
        "trial; orange ring: the default configuration."
    )
    return gallery.draw("slices", note, fill, height=2.5 * lines + 0.2)


def _slice(
    axes: Axes, key: str, trials: Sequence[Shown], summary: Summary, colours: dict[int, Any], best: str | None
) -> None:
    """Draw one slice: numbers on a line, log where the search draws them so; categories side by side."""
    names = categories([t.searched[key] for t in trials])

    def place(trial: Shown) -> float:
        value = trial.searched[key]
        return float(value) if names is None else names.index(word(value))

    for rung in [0, *colours]:
        points = [t for t in trials if t.rung == rung]
        if points:
            places = [place(t) for t in points], [t.best or 0.0 for t in points]
            axes.scatter(*places, s=22, color=colours.get(rung, GREY), alpha=0.9, lw=0)
    for trial in trials:
        if trial.id == best or trial.number == 0:
            colour = BEST if trial.id == best else DEFAULT
            axes.scatter(
                [place(trial)], [trial.best or 0.0], s=80, facecolors="none", edgecolors=colour, linewidths=1.8
            )
    if names is not None:
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.6, len(names) - 0.4)
    elif is_log(key, summary):
        _log_axis(axes)
    elif all(isinstance(t.searched[key], int) for t in trials):
        whole_numbers(axes)


def _log_axis(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with plain labels that do not overlap."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,))
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.xaxis.set_minor_formatter(NullFormatter())

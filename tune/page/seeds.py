"""Write the page of one recipe that was trained with several seeds: its accuracy by category beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nmt.io.table import shortened
from nmt.pair_results import MODEL
from tune.evidence.seeds import Seeds
from tune.page.figures import BEST, DEFAULT, GREY, SOFT, Gallery, Plot, percent_axis
from tune.page.write import write_page
from tune.results.layout import PLOTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADES = (DEFAULT, GREY, SOFT)
"""colours of the baselines, in their order"""


def write_seeds(seeds: Seeds, directory: Path) -> Path:
    """Write the page of trainings over seeds into their folder, and return it. Raises UserError as `write_report`."""
    first = next(iter(seeds.evaluations.values()))
    content = {
        "name": seeds.name,
        "split": first.split,
        "facts": {
            "mean accuracy, in per cent": seeds.shown(MODEL),
            "seeds": str(len(seeds.evaluations)),
            f"{first.split} pairs": f"{first.pairs:,}",
            "epochs each": str(seeds.config.train.epochs),
        },
        "data": seeds.data,
        "methods": list(first.mean),
        "rows": [
            (name or "mean", [seeds.shown(method, name) for method in first.mean])
            for name in [*first.per_category[MODEL], None]
        ],
        "seeds": {seed: f"{100 * evaluation.mean[MODEL]:.1f} %" for seed, evaluation in seeds.evaluations.items()},
    }
    return write_page(directory, lambda: {"title": seeds.name, "seeds": content | {"plot": _plot(seeds, directory)}})


def _plot(seeds: Seeds, directory: Path) -> Plot:
    """Draw the mean of each category with its interval, beside the baselines."""
    first = next(iter(seeds.evaluations.values()))
    names, baselines = list(first.per_category[MODEL]), [method for method in first.mean if method != MODEL]

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        for k, name in enumerate([*names, None]):
            for method, shade in zip(baselines, SHADES, strict=False):
                plain = seeds.accuracy(method, name)
                if plain is not None:
                    axes.scatter([plain.mean], [k], color=shade, marker="|", s=120, label=None if k else method)
            mean = seeds.accuracy(MODEL, name)
            if mean is not None:
                half = seeds.half(name) or 0.0
                axes.plot([mean.mean - half, mean.mean + half], [k, k], color=BEST, lw=2)
                axes.scatter([mean.mean], [k], color=BEST, s=36, zorder=3, label=None if k else MODEL)
        axes.set_yticks(range(len(names) + 1), [*(shortened(name) for name in names), "mean"])
        axes.set_ylim(len(names) + 0.6, -0.6)
        axes.axhline(len(names) - 0.5, color=GREY, lw=0.8)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"accuracy on {first.split}")
        percent_axis(axes, which="x")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    note = f"Mean over the seeds with its 95 % interval. {seeds.note} The other methods train nothing."
    return Gallery(directory / PLOTS).draw("categories", note, fill, height=1.2 + 0.28 * len(names))

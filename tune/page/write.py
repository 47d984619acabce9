"""Write the page of a search, an ablation or a confirmation: report.html, and its plots as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nmt.errors import TemporaryError, UserError
from nmt.io.files import atomic_write
from nmt.io.page import render_page
from tune.driver.two_stage import is_staged
from tune.evidence.ablation import Ablated, load_ablated, reading
from tune.evidence.confirmed import Confirmed, load_confirmed
from tune.evidence.confirmed import render as render_confirmed
from tune.evidence.measures import HEAD as MEASURES_HEAD
from tune.evidence.measures import Measures, measures_table, protocol_tables
from tune.evidence.photograph_table import HEAD
from tune.page.figures import Gallery
from tune.page.forest import forest, rows
from tune.page.search import search_content
from tune.results.commands import next_commands, tensorboard
from tune.results.layout import ABLATED, CONFIRM, CONFIRMED, PAGE, PLOTS, RUNS, SUMMARY
from tune.results.summary import load_summary
from tune.spaces.fidelity import HIGH, LOW

TEMPLATE = Path(__file__).with_name("results_page.html")


def write_report(directory: Path) -> Path:
    """Write the page of what lies in `directory`, from its files alone. It takes no lock: a search may be running.

    Args:
        directory: results/NAME, as the user wrote it.

    Returns:
        The page.

    Raises:
        UserError: nothing to report is there, a file is damaged, or the folder cannot be written.
    """
    return write_page(directory, lambda: _content(directory, Gallery(directory / PLOTS)))


def write_page(directory: Path, content: Callable[[], dict[str, Any]]) -> Path:
    """Draw the plots of a page and write it into `directory`; return its path.

    Args:
        content: draws, and returns the title and one or more kinds of content; see results_page.html.

    Raises:
        UserError: the folder cannot be written, or an error of `content`.
    """
    path = directory / PAGE
    kinds: dict[str, Any] = {"parts": [], "confirmed": None, "ablated": None, "seeds": None}
    try:
        page = render_page(TEMPLATE, **kinds | content())
        with atomic_write(path) as file:
            file.write(page)
    except TemporaryError as error:
        raise UserError(f"{error.args[0].partition(';')[0]}; the page is not written, the table is complete") from error
    return path


def _content(directory: Path, gallery: Gallery) -> dict[str, Any]:
    """Return what the template reads: parts (searches), a confirmation, an ablation."""
    if (directory / ABLATED).is_file():
        ablated = load_ablated(directory / ABLATED)
        return {"title": ablated.name, "ablated": _ablated(ablated, directory, gallery)}
    again = directory / CONFIRM / CONFIRMED
    confirmed = load_confirmed(again) if again.is_file() else None
    return {
        "title": directory.resolve().name,
        "parts": _parts(directory, gallery, confirmed),
        "confirmed": _confirmed(confirmed, again.parent, gallery) if confirmed else None,
    }


def _parts(directory: Path, gallery: Gallery, confirmed: Confirmed | None) -> list[dict[str, Any]]:
    """Return the content of the search; of one at two fidelities, the last stage comes first."""
    if not is_staged(directory):
        return [{"heading": "", **search_content(load_summary(directory), directory, gallery, confirmed)}]
    parts = []
    for stage, number in ((HIGH, 2), (LOW, 1)):
        folder = directory / stage
        if (folder / SUMMARY).is_file():
            own, given = Gallery(gallery.folder / stage), confirmed if stage == HIGH else None
            content = search_content(load_summary(folder), folder, own, given, commands=False)
            parts.append({"heading": f"Stage {number} of 2, on {stage}", **content})
    if (directory / SUMMARY).is_file():
        parts[0]["commands"] = next_commands(load_summary(directory), directory)
    return parts


def _confirmed(confirmed: Confirmed, directory: Path, gallery: Gallery) -> dict[str, Any]:
    """Return what the template reads of a confirmation."""
    note = (
        f"The best of the search and its default configuration, trained again with {len(confirmed.seeds)} new seeds. "
        "A grey interval includes 0: these seeds show no difference."
    )
    head, _, *told = render_confirmed(confirmed, directory).split("\n\n")
    return {
        "plot": forest(
            gallery, "confirmation", confirmed.default, confirmed.candidates, note, {}, confirmed.differences
        ),
        "rows": rows(confirmed.default, confirmed.candidates, {}, confirmed.winner, confirmed.differences),
        "head": head.split("\n"),
        "told": [text for text in told if not text.startswith(("Next:", HEAD, MEASURES_HEAD))],
        "over_both": [text for text in told if text.startswith(HEAD)],
        "measures": _measures(confirmed.measures),
        "commands": [_command(line) for line in told[-1].split("\n")[1:]],
        "failures": [line for one in confirmed.trained for line in one.failures],
    }


def _measures(of: Mapping[str, Measures]) -> dict[str, Any] | None:
    """Return what the template reads of the measures beside accuracy; None where there are none."""
    table = measures_table(of)
    return {"table": table, "protocols": protocol_tables(of)} if table else None


def _command(line: str) -> tuple[str, str]:
    command, _, why = line.strip().rpartition("  # ")
    return command.strip(), why


def _ablated(ablated: Ablated, directory: Path, gallery: Gallery) -> dict[str, Any]:
    """Return what the template reads of an ablation."""
    reference, *others = ablated.variants
    note = (
        f"Each variant over {len(ablated.seeds)} seeds. Differences to {reference.name} are paired by seed. A grey "
        "interval includes 0: these trainings show no difference."
    )
    seconds = sum(run.seconds for variant in ablated.variants for run in variant.runs)
    return {
        "name": ablated.name,
        "description": ablated.description,
        "data": ablated.data,
        "epochs": ablated.epochs,
        "seeds": ", ".join(map(str, ablated.seeds)),
        "facts": {
            "variants": str(len(ablated.variants)),
            "seeds each": str(len(ablated.seeds)),
            "epochs each": str(ablated.epochs),
            "minutes of training": f"{seconds / 60:.1f}",
        },
        "plot": forest(gallery, "ablation", reference, others, note, ablated.photographs),
        "rows": rows(reference, others, ablated.photographs),
        "measures": _measures({"val": ablated.measures}),
        "over": "seeds and photographs" if ablated.photographs else "seeds",
        "reading": reading(ablated),
        "comparisons": len(others),
        "failures": [line for variant in ablated.variants for line in variant.failures],
        "commands": [(tensorboard(directory / RUNS), "the curves of all trainings")],
    }

"""`--report NAME`: print the table of a search, an ablation or a confirmation again, and write its page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.io.user_files import shown_path
from tune.cli.flags import JSON, RESULTS, STORAGE
from tune.cli.job import Job
from tune.cli.runs import find_run
from tune.results.layout import ABLATED, CONFIRM, CONFIRMED, DEFINITION, SUMMARY
from tune.spaces.fidelity import LOW


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Print the table from the current files of the directory, and write the page."""
    directory = find_run(args)
    from tune.page.write import write_report

    result, text = _table(directory)
    print(text)
    page = write_report(directory)
    print(f"\npage: {shown_path(page)}")
    return result | {"page": str(page)}


def _table(directory: Path) -> tuple[dict[str, Any], str]:
    """Return the plain values of --json, and the table to print."""
    from tune.driver import two_stage as stages
    from tune.evidence import ablation, confirmed
    from tune.results.luck import luck_of
    from tune.results.report import render
    from tune.results.summary import load_summary

    if (directory / ABLATED).is_file():
        ablated = ablation.load_ablated(directory / ABLATED)
        return ablated.to_dict(), ablation.render(ablated, directory)
    again = directory / CONFIRM / CONFIRMED
    found = confirmed.load_confirmed(again) if again.is_file() else None
    repeated = found.accuracies if found else ()
    if stages.is_staged(directory):
        _check_begun(directory, directory / LOW / SUMMARY)
        summary, text = stages.report(directory, repeated)
    else:
        _check_begun(directory, directory / SUMMARY)
        summary = load_summary(directory)
        text = render(summary, directory, repeated=repeated)
    if not summary.trials:
        raise UserError(f"{directory / SUMMARY}: no trial has ended or paused yet; ask again when one has")
    if found is None:
        return summary.to_dict(), text
    luck = luck_of(summary.tried, found.accuracies)
    text += "\n\n" + confirmed.render(found, again.parent)
    measured = {"luck": luck.to_dict() if luck else None, "confirm": found.to_dict()}
    return summary.to_dict() | measured, text


def _check_begun(directory: Path, summary: Path) -> None:
    """Raise UserError if a search or an ablation has begun in `directory` and its first `summary` is not there yet."""
    if (directory / DEFINITION).is_file() and not summary.is_file():
        raise UserError(
            f"{directory}: nothing has ended here yet; ask again when something has, or continue it with its own "
            "command and --resume if it does not run"
        )


JOB = Job(
    flag="--report",
    argument="a search or ablation below --results",
    summary="print the table of a search or ablation again, and write its page of plots",
    description=(
        "Print the table of a search or an ablation, and of its confirmation where there is one. Also write "
        "report.html into its folder: one page with all plots, such as which key mattered, that needs no other file; "
        "and each plot as PNG in the folder report. It works while the search is running too, and after a crash. With "
        "--storage it downloads the results first, all but the weights."
    ),
    examples=("--report willow", "--report voc --storage s3://bucket/results"),
    flags=(RESULTS, STORAGE, JSON),
    run=run,
)

"""`--report NAME`: print the table of a search, an ablation or a confirmation again."""

from __future__ import annotations

import argparse
from typing import Any

from tune.cli.flags import JSON, RESULTS, STORAGE
from tune.cli.job import Job
from tune.cli.runs import find_run
from tune.results.layout import ABLATED, CONFIRM, CONFIRMED


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Print the table from the current files of the directory."""
    directory = find_run(args)
    from tune.driver import two_stage as stages
    from tune.evidence import ablation, confirmed
    from tune.results.report import render
    from tune.results.summary import load_summary

    if (directory / ABLATED).is_file():
        ablated = ablation.load_ablated(directory / ABLATED)
        print(ablation.render(ablated, directory))
        return ablated.to_dict()
    if stages.is_staged(directory):
        summary, text = stages.report(directory)
    else:
        summary = load_summary(directory)
        text = render(summary, directory)
    print(text)
    again = directory / CONFIRM / CONFIRMED
    if not again.is_file():
        return summary.to_dict()
    found = confirmed.load_confirmed(again)
    print("\n" + confirmed.render(found, again.parent))
    return summary.to_dict() | {"confirm": found.to_dict()}


JOB = Job(
    flag="--report",
    argument="a search or ablation below --results",
    summary="print the table of a search or ablation again, at any time",
    description=(
        "Print the table of a search or an ablation, and of its confirmation where there is one. It also works while "
        "the search is running, and after a crash. With --storage it downloads the results first, all but the weights."
    ),
    examples=("--report willow", "--report voc --storage s3://bucket/results"),
    flags=(RESULTS, STORAGE, JSON),
    run=run,
)

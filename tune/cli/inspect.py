"""`--inspect NAME`: write one HTML page that shows a prepared data set."""

from __future__ import annotations

import argparse
from typing import Any

from nmt.data.store.present import require_data_set
from tune.cli import names
from tune.cli.configuration import data_of, recipe
from tune.cli.flags import DATA, JSON, RESULTS, SET, seed_flag
from tune.cli.job import Job


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the page and print its path."""
    config = recipe(args)
    data = data_of(args, config)
    require_data_set(data, config.data.name)
    from nmt.data.inspect_page import write_page
    from nmt.data.store.node_copy import local_copy

    page = args.results / f"{config.data.name}-inspect.html"
    write_page(local_copy(data), config.data, page, seed=args.seed or 0)
    print(f"page: {page}")
    return {"page": str(page)}


JOB = Job(
    flag="--inspect",
    argument="a recipe of search_spaces/, or a prepared data set of your own",
    summary="write a page of sample pairs, augmentations and histograms of a data set",
    description=(
        "Write results/NAME-inspect.html: sample pairs with keypoints, graphs and correspondences, the augmentation "
        "that the recipe uses, and histograms. It is one file that any browser opens."
    ),
    examples=("--inspect willow", "--inspect voc --set data.rotation=30"),
    names=names.recipes_and_data,
    flags=(DATA, SET, RESULTS, seed_flag("random seed of the pairs that are drawn (default 0)"), JSON),
    run=run,
)

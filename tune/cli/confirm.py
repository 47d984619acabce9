"""`--confirm NAME`: train the best configurations of a search again over several seeds."""

from __future__ import annotations

import argparse
from typing import Any

from nmt.data.store.present import require_data_set
from tune.cli.configuration import overrides
from tune.cli.flags import DATA, JSON, RESULTS, SET, STORAGE, flag, seed_flag, switch, whole_number
from tune.cli.job import Job
from tune.cli.runs import find_run
from tune.evidence.looks import MIN_SEEDS, SEEDS

TOP = 3


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train the best configurations and the default over several seeds; `run_confirm` prints the table."""
    changed = overrides(args)
    directory = find_run(args)
    from tune.evidence.confirm import run_confirm
    from tune.results.summary import load_summary

    data = args.data
    require_data_set(data or load_summary(directory).data)
    confirmed = run_confirm(
        directory,
        data=data,
        top=TOP if args.top is None else args.top,
        seeds=SEEDS if args.seeds is None else args.seeds,
        first_seed=args.seed,
        final=args.final,
        overrides=changed,
    )
    return confirmed.to_dict()


JOB = Job(
    flag="--confirm",
    argument="a search below --results",
    summary="train a search's best again over seeds: is the winner really better?",
    description=(
        "Train the best configurations of a search and its default again, each with several seeds the search has not "
        "used, and compare them seed by seed. Only a configuration that is clearly better is called the winner: its "
        "interval lies above 0, and all intervals hold together, also where seeds are added later. The "
        "test split is read once, for the winner and the default. With --final, both first train again on train and "
        "val together. The same command continues an interrupted confirmation."
    ),
    examples=("--confirm willow --top 3 --seeds 5", "--confirm voc --final --storage s3://bucket/results"),
    flags=(
        flag(
            "--top",
            f"configurations to train beside the default one (default {TOP})",
            metavar="K",
            type=whole_number(1),
        ),
        flag(
            "--seeds",
            f"trainings of each configuration, at least {MIN_SEEDS} (default {SEEDS})",
            metavar="N",
            type=whole_number(0),
        ),
        switch(
            "--final",
            "also train the winner and the default on train and val, as published, and read the test split for these",
        ),
        seed_flag("first seed (default: the one after the search's)"),
        DATA,
        SET,
        RESULTS,
        STORAGE,
        JSON,
    ),
    run=run,
    interrupted="Interrupted. The same command continues.",
)

"""`--search NAME`: run a search over a space, or an ablation of named variants."""

from __future__ import annotations

import argparse
import os
from typing import Any

from nmt.commands import command
from nmt.data.store.present import require_data_set
from nmt.errors import UserError
from nmt.recipes import OWN_FOLDER, RecipeFile, has_file, read_recipe
from tune.cli import names
from tune.cli.configuration import data_of, overrides
from tune.cli.flags import (
    CARD,
    DATA,
    JSON,
    RESULTS,
    RESUME,
    SET,
    STORAGE,
    flag,
    refuse,
    seed_flag,
    switch,
    whole_number,
    workers_flag,
)
from tune.cli.job import Job
from tune.cli.prepare import Request, make_data_set


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run, resume or preview the search or ablation that the file defines; each prints its own table."""
    if not has_file(args.name) and os.path.isdir(args.data or f"data/{args.name}"):
        raise UserError(
            f"{OWN_FOLDER}/{args.name}.toml: not there, and it says what is searched; "
            f"write it with: {command('--init', args.name, data=args.data, data_set=args.name)}"
        )
    file = read_recipe(args.name)
    return ablate(args, file) if file.is_ablation else search(args, file)


def search(args: argparse.Namespace, file: RecipeFile) -> dict[str, Any]:
    """Run a search. The data set of the demo is made first."""
    from tune.driver.identity import check_results
    from tune.spaces.read import load_space

    refuse(args, ("--seeds",), f"{args.name} is a search, which trains each trial once; --confirm repeats its best")
    if args.dry_run:
        refuse(args, ("--resume",), "--dry-run starts nothing, so there is nothing to continue; leave one out")
    else:
        refuse(args, ("--card",), "only --dry-run compares with a card; add it")
    space = load_space(file, overrides(args))
    asked = {"trials": args.trials, "seed": args.seed, "workers": args.workers}
    if not args.dry_run and args.storage is None:  # results at a storage are downloaded, then checked, by the search
        check_results(space, args.results / space.name, resume=args.resume, **asked)
    data = data_of(args, space.base)
    if space.base.data.name == "demo" and not args.dry_run:
        make_data_set(space.base, data, Request())
    if not args.resume:  # a search that has finished needs none to print its table
        require_data_set(data, space.base.data.name)
    given = {"results": args.results, "data": data, "storage": args.storage, **asked}
    if not args.dry_run:
        from tune.driver.run import run_search

        return run_search(space, **given, resume=args.resume).to_dict()
    if space.fidelity:
        from tune.driver.two_stage import preview_stages

        return preview_stages(space, **given, card=args.card)
    from tune.driver.search import preview_search

    return preview_search(space, **given, card=args.card).to_dict()


def ablate(args: argparse.Namespace, file: RecipeFile) -> dict[str, Any]:
    """Run an ablation."""
    refuse(args, ("--trials",), f"{args.name} is an ablation: it trains its [variants], each with --seeds N seeds")
    refuse(args, ("--workers",), f"{args.name} is an ablation, whose trainings have one worker each; leave it out")
    refuse(args, ("--dry-run", "--card"), f"{args.name} is an ablation, which has no dry run; leave the flag out")
    refuse(args, ("--storage",), f"{args.name} is an ablation, which keeps its results in --results; leave it out")
    from tune.evidence.ablation import load_ablation, run_ablation

    ablation = load_ablation(file, overrides(args), seeds=args.seeds, first_seed=args.seed)
    data = data_of(args, ablation.base)
    require_data_set(data, ablation.base.data.name)
    return run_ablation(ablation, results=args.results, data=data, resume=args.resume).to_dict()


JOB = Job(
    flag="--search",
    argument="a file of search_spaces/, or the path of a TOML file",
    summary="search for a better configuration, or run an ablation",
    description=(
        "Try configurations of the space that search_spaces/NAME.toml defines, stop poor ones early, and print the "
        "table of the best. Trials run side by side on this machine, or on the Ray cluster at RAY_ADDRESS. A file with "
        "[variants] is an ablation: it trains each variant with several seeds and compares them."
    ),
    examples=("--search demo", "--search voc --trials 32 --workers 4 --storage s3://bucket/results"),
    names=names.recipes,
    flags=(
        DATA,
        SET,
        flag(
            "--trials",
            "configurations to try, instead of the file's limit (searches)",
            metavar="N",
            type=whole_number(1),
        ),
        flag(
            "--seeds", "trainings of each variant, instead of the file's (ablations)", metavar="N", type=whole_number(1)
        ),
        seed_flag("random seed of the sampler; in an ablation the first training seed"),
        workers_flag("data-parallel workers of each trial, instead of the file's; FEWEST:MOST may shrink and grow"),
        RESULTS,
        STORAGE,
        RESUME,
        switch("--dry-run", "check everything on every node, print a preview and stop (searches)"),
        CARD,
        JSON,
    ),
    run=run,
    interrupted="Interrupted. The same command with --resume continues.",
)

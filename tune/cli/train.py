"""`--train NAME`: run one training of a recipe, or of a configuration file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.commands import command
from nmt.config import Config, with_overrides
from nmt.data.store.present import require_data_set
from nmt.errors import UserError
from nmt.training.files import BEST, CHECKPOINT
from nmt.training.history import METRIC
from nmt.training.logger import check_loggers
from tune.cli import names
from tune.cli.configuration import change_line, data_of, has_default_recipe, recipe, recipe_line
from tune.cli.flags import (
    CARD,
    DATA,
    JSON,
    RESULTS,
    RESUME,
    SET,
    STORAGE,
    refuse,
    seed_flag,
    switch,
    workers_flag,
)
from tune.cli.job import Job
from tune.cli.runs import stored
from tune.results.layout import TRIALS
from tune.results.log import log
from tune.spaces.settings import parse_workers, workers_for

if TYPE_CHECKING:
    from tune.results.storage import Storage


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, resume or preview a training; print the metrics of its best epoch."""
    if not args.dry_run:
        refuse(args, ("--card",), "only --dry-run compares with a card; add it")
    config = recipe(args)
    if args.seed is not None:
        config = with_overrides(config, {"train.seed": args.seed}, source="--seed")
    check_loggers(config)
    if args.workers is not None:
        workers_for(args.workers, config.data.pairs_per_step)
    data = data_of(args, config)
    require_data_set(data, config.data.name)
    if has_default_recipe(args):
        from nmt.data.store.own_data import require_own_features

        require_own_features(config, data)
    directory = args.results / training_name(args.name)
    home = stored(args, directory)
    if home is not None and args.resume:
        home.take_over("")
    if args.resume and not (directory / CHECKPOINT).exists():
        log.info(f"{directory}: no checkpoint to resume there, so the training begins anew")
    if not args.resume and ((directory / CHECKPOINT).exists() or (home is not None and home.holds(CHECKPOINT))):
        raise UserError(
            f"{directory}: already holds a training; --resume continues it, --results DIR puts a new one elsewhere"
        )
    if args.dry_run:
        return preview(args, config, data, directory)
    if args.workers is None:
        best = train_alone(args, config, data, directory, home)
    else:
        from tune.driver.train_workers import train_together

        if has_default_recipe(args):
            log.info(f"{recipe_line(config)}\n{change_line(config, data)}")
        best = train_together(config, workers=args.workers, data=data, directory=directory, storage=home)
    if METRIC in best:
        print(f"best epoch {best['epoch']}: validation accuracy {best[METRIC]:.1%} ({directory}/{BEST})")
    else:
        print(
            f"epoch {best['epoch']}, the last: loss {best['train/loss']:.3f}, val was trained on ({directory}/{BEST})"
        )
    print(f"next: {next_command(args, config, data, directory)}")
    return {"directory": str(directory), **best}


def preview(args: argparse.Namespace, config: Config, data: str, directory: Path) -> dict[str, Any]:
    """Print the plan of a training, and whether it fits the memory of a GPU. Changes nothing."""
    from nmt.data.store.ready import local_data
    from nmt.training.fit import fit_line
    from nmt.training.plan import plan_training

    folder = local_data(data, config)
    print(plan_training(config, data=folder, directory=directory, resume=args.resume, timed=False))
    workers = parse_workers(args.workers).fewest if args.workers is not None else 1
    memory = fit_line(config, data=folder, card=args.card, workers=workers)
    if memory is not None:
        print(f"memory: {memory}")
    return {"directory": str(directory), "memory": memory}


def next_command(args: argparse.Namespace, config: Config, data: str, directory: Path) -> str:
    """Return the command that evaluates the training: on the test split, or on val where there is none.

    Where neither can be evaluated on, because val was trained on, it is the one that matches two images.
    """
    from nmt.data.store.objects import ObjectStore
    from nmt.data.store.partners import has_test
    from nmt.data.store.ready import local_data

    split = ["--split", "test"] if has_test(ObjectStore.open(local_data(data, config))) else []
    if not split and not config.data.validates:
        return command("--match", directory / BEST, "--images", "A.jpg", "B.jpg", "--keypoints", "A.csv", "B.csv")
    place = {"data": args.data, "data_set": config.data.name, "results": args.results, "storage": args.storage}
    return command("--evaluate", directory.name, *split, **place)


def train_alone(
    args: argparse.Namespace, config: Config, data: str, directory: Path, home: Storage | None
) -> dict[str, Any]:
    """Train in this process; return the metrics of the best epoch."""
    from nmt.data.store.ready import local_data
    from nmt.device import limit_threads
    from nmt.training.loop import train
    from nmt.training.out_of_memory import twice_within_memory
    from nmt.training.plan import plan_training
    from tune.jobs.uploads import Uploads

    limit_threads(config)
    place: dict[str, Any] = {"data": local_data(data, config), "directory": directory}
    if args.name.endswith(".json"):
        from tune.results.definition import trial_decode_grid

        place["decode_grid"] = trial_decode_grid(Path(args.name), config)

    def attempt(within: Config, again: bool) -> Any:
        uploads.wait()
        resume = args.resume or again
        plan = plan_training(within, **place, resume=resume)
        log.info(
            f"{recipe_line(within)}\n{change_line(within, data)}\n{plan}" if has_default_recipe(args) else str(plan)
        )
        hooks: dict[str, Any] = {"on_epoch": lambda _: uploads.put(), "on_checkpoint": uploads.later}
        return train(within, **place, **hooks, resume=resume, progress=True)

    with Uploads(home) as uploads:
        try:
            return twice_within_memory(attempt, config).metrics
        except KeyboardInterrupt:  # the checkpoint at the exact step is written by now
            uploads.put()
            raise


def training_name(name: str) -> str:
    """Return a training's folder name: NAME-train; demo-best for demo/best.json; demo-003 for trial 003."""
    path = Path(name)
    if path.suffix != ".json":
        return f"{path.stem}-train"
    folder = path.resolve().parent
    if folder.parent.name == TRIALS:
        return f"{folder.parent.parent.name}-{folder.name}"
    return f"{folder.name}-{path.stem}"


JOB = Job(
    flag="--train",
    argument="a recipe of search_spaces/, a prepared data set of your own, or a config.json or best.json",
    summary="train once: a recipe, or the configuration of a trial or a search's winner",
    description=(
        "Train one configuration and keep the weights of its best validation epoch. NAME is a recipe of "
        "search_spaces/, a prepared data set of your own, or a JSON file such as results/NAME/best.json. The results "
        "go to results/NAME-train."
    ),
    examples=("--train willow --set optim.lr=1e-3", "--train results/demo/best.json --seed 1"),
    names=names.recipes_and_data,
    flags=(
        DATA,
        SET,
        seed_flag("random seed of the weights and the pairs: train.seed"),
        workers_flag("data-parallel workers, on one machine or a Ray cluster; FEWEST:MOST may shrink and grow"),
        RESULTS,
        STORAGE,
        RESUME,
        switch("--dry-run", "check everything, print the plan and the GPU memory of a step, and stop"),
        CARD,
        JSON,
    ),
    run=run,
    interrupted="Interrupted. The same command with --resume continues.",
)

"""Find a search or a training by its name, and its best weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.errors import UserError, nearest
from nmt.io.files import require_file
from nmt.training.files import BEST
from tune.cli.flags import refuse

if TYPE_CHECKING:
    from tune.results.storage import Storage


def stored(args: argparse.Namespace, directory: Path) -> Storage | None:
    """Return the storage of a results directory; None without --storage."""
    if args.storage is None:
        return None
    from tune.results.storage import Storage, run_address

    return Storage(run_address(args.storage, directory.name), directory.resolve())


def find_run(args: argparse.Namespace) -> Path:
    """Return the directory of a search or training below --results.

    With --storage, the results are downloaded first.

    Raises:
        UserError: it does not exist; the message names the nearest.
    """
    directory: Path = args.results / args.name
    home = stored(args, directory)
    if home is not None:
        from tune.results.storage import fetch_results

        fetch_results(home)
    if not directory.is_dir():
        known = [p.name for p in args.results.iterdir() if p.is_dir()] if args.results.is_dir() else []
        raise UserError(f"{directory}: no search or training there; {nearest(args.name, known)}")
    return directory


def find_checkpoint(args: argparse.Namespace) -> Path:
    """Return the best weights of a search or a training, or the file that NAME is. Raises UserError."""
    if args.name.endswith(".pt"):
        refuse(args, ("--results", "--storage"), f"{args.name} is a file, which is read directly; leave the flag out")
        require_file(Path(args.name), "checkpoint")
        return Path(args.name)
    directory = find_run(args)
    home = stored(args, directory)
    if home is not None and home.holds(BEST):
        home.fetch()
    if (directory / BEST).is_file():
        return directory / BEST
    from tune.results.summary import load_summary

    best = load_summary(directory).best
    if best is None or best.checkpoint is None:
        raise UserError(f"{directory}: no trial has completed an epoch yet")
    if home is not None:
        home.fetch(str(Path(best.checkpoint).parent))
    return directory / best.checkpoint

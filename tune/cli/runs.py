"""Find a search or a training by its name, and its best weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.commands import command
from nmt.errors import UserError, nearest
from nmt.io.files import require_file
from nmt.recipes import has_file
from nmt.training.files import BEST, CONFIG
from tune.cli.flags import refuse
from tune.results.layout import DEFINITION, SUMMARY, TRIALS

if TYPE_CHECKING:
    from tune.results.storage import Storage


def stored(args: argparse.Namespace, directory: Path) -> Storage | None:
    """Return the storage of a results directory; None without --storage."""
    if args.storage is None:
        return None
    from tune.results.storage import Storage, run_address

    return Storage(run_address(args.storage, directory.name), directory.resolve())


def find_run(args: argparse.Namespace, *, or_training: bool = False) -> Path:
    """Return the directory of a search or an ablation below --results.

    With --storage, the results are downloaded first.

    Args:
        or_training: accept a training too.

    Raises:
        UserError: it does not exist, and the message names the nearest; or it is a training.
    """
    directory: Path = args.results / args.name
    home = stored(args, directory)
    if home is not None:
        from tune.results.storage import fetch_results

        fetch_results(home)
    if not directory.is_dir():
        raise UserError(f"{directory}: no search or training there; {_instead(args, or_training=or_training)}")
    if _is_training(directory) and not or_training:
        raise UserError(
            f"{directory}: holds a training, not a search; see its accuracy with: "
            + command("--evaluate", args.name, **_places(args))
        )
    return directory


def _places(args: argparse.Namespace) -> dict[str, Any]:
    """Return the folders and addresses of a job, for the command of another one."""
    data = getattr(args, "data", None)  # read by some of the jobs
    return {"results": args.results, "storage": args.storage, "data": data}


def _is_training(directory: Path) -> bool:
    return (directory / BEST).is_file()


def _instead(args: argparse.Namespace, *, or_training: bool) -> str:
    """Say which result the user may mean, or which command makes it."""
    there = [p for p in args.results.iterdir() if p.is_dir()] if args.results.is_dir() else []
    known = [p.name for p in there if or_training or not _is_training(p)]
    if f"{args.name}-train" in known:
        return f"did you mean '{args.name}-train'?"
    hint = nearest(args.name, known)
    if hint.endswith("?"):
        return hint
    makers = [command("--search", args.name, **_places(args))] if has_file(args.name) else []
    if or_training and (makers or Path("data", args.name).is_dir()):
        makers.append(command("--train", args.name, **_places(args)))
    return f"{hint}; make one with: {', or '.join(makers)}" if makers else hint


def trainings_below(args: argparse.Namespace) -> list[Path]:
    """List the trainings one or two levels below the folder NAME of --results; none if it holds a run itself."""
    directory: Path = args.results / args.name
    if any((directory / name).exists() for name in (BEST, DEFINITION, SUMMARY, TRIALS)):
        return []
    return sorted(path.parent for pattern in (f"*/{CONFIG}", f"*/*/{CONFIG}") for path in directory.glob(pattern))


def find_checkpoint(args: argparse.Namespace) -> Path:
    """Return the best weights of a search or a training, or the file that NAME is. Raises UserError."""
    if args.name.endswith((".pt", ".safetensors")):
        refuse(args, ("--results", "--storage"), f"{args.name} is a file, which is read directly; leave the flag out")
        require_file(Path(args.name), "checkpoint")
        return Path(args.name)
    directory = find_run(args, or_training=True)
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

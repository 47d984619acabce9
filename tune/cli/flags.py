"""The flags of the command line that several jobs share, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.commands import program_name
from nmt.errors import UserError
from nmt.training.cards import CARDS, find_card
from tune.spaces.settings import parse_workers


@dataclass(frozen=True)
class Flag:
    """One flag of a job."""

    name: str
    """name with its two dashes"""
    options: Mapping[str, Any]
    """arguments of argparse.ArgumentParser.add_argument"""


def flag(name: str, help: str, **options: Any) -> Flag:
    """Return a flag with its help text and other options of argparse."""
    return Flag(name, {"help": help, **options})


def switch(name: str, help: str) -> Flag:
    """Return a flag without a value."""
    return flag(name, help, action="store_true")


def whole_number(at_least: int) -> Callable[[str], int]:
    """Return the type of a flag whose value is a whole number from `at_least` up."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, but got {text!r}") from None
        if value < at_least:
            raise argparse.ArgumentTypeError(f"must be at least {at_least}, but got {value}")
        return value

    return number


@dataclass(frozen=True)
class OneOf:
    """The type of a flag that takes one of these values."""

    values: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text not in self.values:
            raise argparse.ArgumentTypeError(f"must be {' or '.join(self.values)}, but got {text!r}")
        return text


def one_of(*values: str) -> OneOf:
    """Return the type of a flag that takes one of these values."""
    return OneOf(values)


def refuse(args: argparse.Namespace, flags: Collection[str], why: str) -> None:
    """Refuse flags that the job would ignore.

    Args:
        why: the reason, for the message.

    Raises:
        UserError: one of these flags was given.
    """
    for given in args.given:
        if given in flags:
            raise UserError(f"{given}: {why}")


SET = flag(
    "--set",
    f"change a configuration key, such as optim.lr=1e-3; may be repeated; {program_name()} --keys lists all keys",
    metavar="KEY=VALUE",
    action="append",
    default=[],
)
DECODE = flag(
    "--set",
    "change a decode.* key, such as decode.epsilon=0.05; may be repeated; the checkpoint fixes all other keys",
    metavar="KEY=VALUE",
    action="append",
    default=[],
)
DATA = flag(
    "--data", "the prepared data set: a folder (default data/NAME) or an address such as s3://bucket/x", metavar="DIR"
)
RESULTS = flag(
    "--results", "folder of all results (default results)", metavar="DIR", type=Path, default=Path("results")
)
STORAGE = flag(
    "--storage",
    "keep results at this folder or address, such as s3://bucket/x; --results is then the local working copy",
    metavar="PLACE",
)
CARD = flag(
    "--card",
    "with --dry-run: the GPU that the training has to fit; by default this machine's, if it has one; one of "
    f"{', '.join(CARDS)}",
    metavar="NAME",
    type=find_card,
)
RESUME = switch("--resume", "continue where the same command was interrupted")
JSON = switch("--json", "print the result as one line of JSON at the end")


def seed_flag(help: str) -> Flag:
    """Return the --seed flag of a job."""
    return flag("--seed", help, metavar="N", type=whole_number(0))


def workers_flag(help: str) -> Flag:
    """Return the --workers flag of a job."""
    return flag("--workers", help, metavar="N", type=workers)


def workers(text: str) -> str:
    """Check the value of --workers. Raises UserError if it is neither a number nor FEWEST:MOST."""
    parse_workers(text)
    return text

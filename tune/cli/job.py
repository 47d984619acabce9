"""A job of the command line, and the parser of its flags."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nmt.commands import program_name
from nmt.errors import UserError
from tune.cli.flags import Flag
from tune.cli.names import results

PROGRAM = program_name()
"""run.py, or nmt where the console script of the installed package was started"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job: its purpose, the flags it reads, and the function that runs it."""

    flag: str
    """name with its two dashes: --search"""
    argument: str
    """description of its NAME, for --help"""
    summary: str
    """one line for the overview of jobs"""
    description: str
    """one paragraph for its own --help"""
    examples: tuple[str, ...]
    """commands without the program"""
    flags: tuple[Flag, ...]
    run: Callable[[argparse.Namespace], dict[str, Any]]
    """runs the job and prints its results; returns the plain values of --json"""
    names: Callable[[Path], Sequence[str]] = results
    """lists what NAME may be here, given the folder of --results, for the completion of a shell"""
    metavar: str = "NAME"
    argument_options: tuple[tuple[str, Any], ...] = ()
    """more options of argparse for the job's own flag"""
    interrupted: str = "Interrupted."
    """message after Ctrl-C"""

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the flags that the job reads."""
        return tuple(flag.name for flag in self.flags)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UserErrors of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError with argparse's message in plain words and the help command."""
        found = re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL)
        if found:
            name, problem = found.groups()
            if problem.startswith("expected"):
                problem = f"needs {problem.removeprefix('expected ').replace('argument', 'value')}"
            if problem.startswith("ignored explicit"):
                problem = "takes no value"
            message = f"{name} {problem}"
        raise UserError(f"{message}; see {self.usage}")


def build_parser(job: Job) -> Parser:
    """Return the parser of one job."""
    width = shutil.get_terminal_size((100, 24)).columns - 2
    start = f"python {PROGRAM}" if PROGRAM.endswith(".py") else PROGRAM
    examples = "\n".join(f"  {start} {example}" for example in job.examples)
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} {job.flag} --help",
        description=textwrap.fill(job.description, width),
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options = {"metavar": job.metavar, "help": job.argument, **dict(job.argument_options)}
    parser.add_argument(job.flag, dest="name", **options)
    for flag in job.flags:
        parser.add_argument(flag.name, **flag.options)
    return parser


def help_text(job: Job) -> str:
    """Return the --help text of a job."""
    parser = build_parser(job)
    parser.usage = f"{PROGRAM} {job.flag} {job.metavar} [flags]"
    return parser.format_help()


def parse(job: Job, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of a job.

    Returns:
        Its flags, with the names of those that were given in `given`.

    Raises:
        UserError: an unknown argument or a wrong value.
    """
    parser = build_parser(job)
    args, rest = parser.parse_known_args(arguments)
    if rest:
        parser.error(f"unexpected argument {rest[0]!r}")
    args.given = given_flags(arguments)
    return args


def given_flags(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are flags, without their values. A negative number is a value."""
    flags = (argument.partition("=")[0] for argument in arguments if re.match(r"-(?![\d.])", argument))
    return [flag.strip() for flag in flags]

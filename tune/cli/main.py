"""The entry point of the command line: find the job, check its flags, run it, return the exit code."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterable, Sequence

from nmt.errors import FailedError, UserError, nearest
from tune.cli import (
    completion,
    confirm,
    download,
    evaluate,
    export,
    init,
    inspect,
    keys,
    match,
    prepare,
    report,
    search,
    serve,
    train,
)
from tune.cli.job import PROGRAM, Job, given_flags, help_text, parse
from tune.results.log import discard_output, open_closed_streams, replace_unknown_characters, to_console

JOBS = {
    module.JOB.flag: module.JOB
    for module in (
        prepare,
        download,
        inspect,
        init,
        train,
        search,
        confirm,
        evaluate,
        report,
        match,
        serve,
        export,
        keys,
        completion,
    )
}
HELP = ("--help", "-h")
VERSION = "--version"
DISTRIBUTION = "normalized-matching-transformer"
"""name of the project as a package"""
CLOSED_PIPE = 141
"""exit code after the reader of the output has gone, as of other programs (128 + SIGPIPE)"""

OVERVIEW = """\
usage: {program} --JOB NAME [flags]

NMT, the Normalized Matching Transformer: search, train and compare sparse keypoint matching.

jobs:
{jobs}

start here, no download:    {program} --search demo
pictures of your own:       {program} --prepare birds --raw DIR
  a file to edit:           {program} --init birds
  a search over it:         {program} --search birds --trials 4
a published data set, once: {program} --prepare willow --raw DIR
one training:               {program} --train willow [--set optim.lr=1e-3]
a search:                   {program} --search willow --trials 32
its table again:            {program} --report willow
is its winner really one:   {program} --confirm willow --top 3 --seeds 5
the winner on unseen data:  {program} --evaluate willow --split test
two images of your own:     {program} --match willow --images A.jpg B.jpg --keypoints A.csv B.csv
the same in the browser:    {program} --serve willow
the winner as ONNX:         {program} --export willow

the flags of a job:         {program} --search --help
its flags by the Tab key:   {program} --completion bash
"""


def overview() -> str:
    """Return the --help text without a job."""
    width = max(len(f"{job.flag} {job.metavar}") for job in JOBS.values())
    jobs = "\n".join(f"  {f'{job.flag} {job.metavar}':{width}}  {job.summary}" for job in JOBS.values())
    return OVERVIEW.format(jobs=jobs, program=PROGRAM)


def version() -> str:
    """Return the version of the installed project."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def find_job(arguments: Sequence[str]) -> Job | None:
    """Return the job among the arguments; None if they only ask for help.

    Raises:
        UserError: no job, or more than one.
    """
    given = given_flags(arguments)
    named = list(dict.fromkeys(flag for flag in given if flag in JOBS))
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} are {len(named)} jobs; ask for one at a time; see {PROGRAM} --help")
    if named:
        return JOBS[named[0]]
    if any(flag in HELP for flag in given):
        return None
    known = {name for job in JOBS.values() for name in job.reads}
    for flag in given:
        if flag not in known:
            raise _unknown(flag, JOBS, f"{PROGRAM} --help")
    for word in arguments:
        if f"--{word}" in JOBS:
            raise UserError(f"{word!r} is no job; did you mean '--{word}'? See {PROGRAM} --help")
    raise UserError(f"no job is given; add one of {', '.join(JOBS)}; see {PROGRAM} --help")


def check_flags(job: Job, given: Sequence[str]) -> None:
    """Raise UserError for a flag that the job does not read. It names the jobs that do, or the nearest flag."""
    for flag in given:
        if flag in (job.flag, *job.reads, *HELP):
            continue
        readers = [other.flag for other in JOBS.values() if flag in other.reads]
        if readers:
            raise UserError(f"{flag} is read by {_listed(readers)}; {job.flag} does not take it")
        raise _unknown(flag, job.reads, f"{PROGRAM} {job.flag} --help")


def _unknown(flag: str, known: Iterable[str], more: str) -> UserError:
    """Return the error of a flag that no job reads: the nearest known one, and the command that lists them."""
    hint = nearest(flag, known)
    return UserError(f"unknown flag {flag}; {hint}{'' if hint.endswith('?') else '.'} See {more}")


def _listed(names: Sequence[str]) -> str:
    """Join names: "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and return the exit code.

    Returns:
        0 if it is done, 1 if it failed, 2 for a user's mistake (one line on standard error), 130 if interrupted,
        141 if nobody reads the output any more.
    """
    open_closed_streams()
    replace_unknown_characters()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given == [VERSION]:
            print(f"nmt {version()}")
            return 0
        if given[:1] == [completion.COMPLETE]:  # asked by the script of --completion
            print("".join(f"{word}\n" for word in completion.candidates(" ".join(given[1:]), JOBS)), end="")
            return 0
        job = find_job(given)
        if job is None:
            print(overview(), end="")
            return 0
        status = run_job(job, given)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has read enough
        discard_output()
        return CLOSED_PIPE
    except OSError as error:
        if not _output_is_lost():
            raise
        discard_output()
        print(f"{PROGRAM}: the output cannot be written ({error.strerror}); free space where it goes", file=sys.stderr)
        return 1


def _output_is_lost() -> bool:
    """True if nothing can be printed, as to a file on a full disk."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def run_job(job: Job, arguments: Sequence[str]) -> int:
    """Run this job, or print its help; return the exit code. Raises UserError."""
    flags = given_flags(arguments)
    if any(flag in HELP for flag in flags):
        print(help_text(job), end="")
        return 0
    check_flags(job, flags)
    args = parse(job, arguments)
    to_console()
    try:
        result = job.run(args)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: {job.interrupted}", file=sys.stderr)
        return 130
    except FailedError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(result))
    return 0

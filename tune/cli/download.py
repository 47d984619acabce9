"""`--download NAME`: download the raw data set of a published benchmark from its official addresses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nmt.commands import command
from tune.cli.flags import JSON, flag
from tune.cli.job import Job


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Download and unpack the data set; print its folder and the next command."""
    from nmt.data.readers.download import download

    raw = args.raw or Path("data") / "raw" / args.name
    download(args.name, raw, progress=sys.stderr.isatty())
    print(f"{raw}: complete; next: {command('--prepare', args.name, '--raw', raw)}")
    return {"raw": str(raw)}


JOB = Job(
    flag="--download",
    argument="voc, spair or willow",
    names=lambda _: ("voc", "spair", "willow"),
    summary="download a published raw data set: voc, spair or willow",
    description=(
        "Download a published raw data set from its official addresses and unpack it. Each archive's SHA-256 is "
        "recorded and checked. The same command again continues a broken download."
    ),
    examples=("--download willow", "--download voc --raw /disk/voc"),
    flags=(flag("--raw", "folder to download into (default data/raw/NAME)", metavar="DIR", type=Path), JSON),
    run=run,
    interrupted="Interrupted. The same command continues.",
)

"""`--match NAME`: match the keypoints of two images of the user's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.io.files import require_file
from tune.cli.configuration import decode_overrides
from tune.cli.flags import DECODE, JSON, RESULTS, STORAGE, flag
from tune.cli.job import Job
from tune.cli.picture import check_picture, write_picture
from tune.cli.runs import find_checkpoint


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Match the keypoints, print a line per keypoint, and draw the pair."""
    if not args.images or not args.keypoints:
        raise UserError("--match needs --images A B and --keypoints A.csv B.csv (lines name,x,y in pixels)")
    out = args.out or Path("match.png")
    check_picture(out, inputs=args.images)
    decode, checkpoint = decode_overrides(args), find_checkpoint(args)
    for path in args.images:
        require_file(path, "image")
    for path in args.keypoints:
        require_file(path, "keypoint file")
    from nmt.inference.match import match_images

    matches = match_images(checkpoint, args.images, args.keypoints, decode=decode)
    print(matches)
    write_picture(out, matches.draw())
    return {"matches": matches.names(), "picture": str(out)}


JOB = Job(
    flag="--match",
    argument="a search or training below --results, or the path of a best.pt",
    summary="match the keypoints of two images of your own",
    description=(
        "Match the keypoints of two images with the winner of a search, a training or a best.pt. Print a line per "
        "keypoint of the first image, and draw both images with the matches."
    ),
    examples=(
        "--match willow --images A.jpg B.jpg --keypoints A.csv B.csv",
        "--match results/demo-train/best.pt --images A.jpg B.jpg --keypoints A.csv B.csv --out pair.png",
    ),
    flags=(
        flag("--images", "the two images", metavar=("A", "B"), nargs=2, type=Path),
        flag(
            "--keypoints",
            "a file per image: lines name,x,y in pixels, or annotations that --prepare reads",
            metavar=("A", "B"),
            nargs=2,
            type=Path,
        ),
        flag("--out", "the picture to write (default match.png)", metavar="PNG", type=Path),
        DECODE,
        RESULTS,
        STORAGE,
        JSON,
    ),
    run=run,
)

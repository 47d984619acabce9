"""`--match NAME`: match the keypoints of images of the user's own, one pair or a list of pairs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.commands import command
from nmt.errors import UserError
from nmt.io.files import require_file
from nmt.io.user_files import shown_path
from tune.cli.configuration import decode_overrides
from tune.cli.flags import DECODE, JSON, RESULTS, STORAGE, flag, refuse
from tune.cli.job import Job
from tune.cli.picture import check_picture, write_picture
from tune.cli.runs import find_checkpoint

if TYPE_CHECKING:
    from nmt.inference.image_matcher import ImageMatcher


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Match the keypoints, print their matches, and draw the pairs."""
    if args.pairs is not None:
        refuse(args, ("--images", "--keypoints"), "--pairs gives the images and the keypoints; leave it out")
        return run_list(args)
    if not args.images or not args.keypoints:
        raise UserError(
            "--match needs --images A B and --keypoints A.csv B.csv (lines name,x,y in pixels), or --pairs LIST.csv"
        )
    out = args.out or Path("match.png")
    check_picture(out, inputs=args.images)
    decode, checkpoint = decode_overrides(args), find_checkpoint(args)
    for path in args.images:
        require_file(path, "image")
    for path in args.keypoints:
        require_file(path, "keypoint file")
    from nmt.inference.match import match_files, read_pair, warning_of

    pair = read_pair(args.images, args.keypoints, keep=True)  # first, for loading the matcher takes seconds
    matcher = load(checkpoint, decode)
    matches = next(match_files(matcher, [pair]))
    warning = warning_of(matcher, pair)
    print(matches)
    if (right := matches.right_text()) is not None:
        print(right)
    warn([warning])
    write_picture(out, matches.draw())
    return {**matches.to_dict(), "warning": warning, "picture": str(out)}


def run_list(args: argparse.Namespace) -> dict[str, Any]:
    """Match the pairs of a list; write a table of all matches and a picture of each pair to a folder."""
    out = args.out or Path("matches")
    decode, checkpoint = decode_overrides(args), find_checkpoint(args)
    from nmt.inference.match import match_files, warning_of
    from nmt.inference.pair_list import read_pair_list
    from tune.cli.match_list import check_folder, writing

    require_file(args.pairs, "list of pairs")
    check_folder(out)
    pairs = read_pair_list(args.pairs)
    matcher = load(checkpoint, decode)
    warnings = [warning_of(matcher, pair) for pair in pairs]
    rows = []
    with writing(out, pairs) as written:
        for pair, matches, warning in zip(pairs, match_files(matcher, pairs), warnings, strict=True):
            written.add(matches)
            right = f"; {matches.right_text()}" if matches.right_text() else ""
            print(f"{pair.label}: {matches.verdict() or matches.count()}{right}", flush=True)
            rows.append({"images": list(map(str, pair.images)), **matches.to_dict(), "warning": warning})
    warn(warnings)
    print(f"{len(rows)} pairs: {shown_path(written.table)} and pictures beside it")
    return {"pairs": rows, "table": str(written.table)}


def load(checkpoint: Path, decode: dict[str, Any]) -> ImageMatcher:
    """Load the matcher; say in one line where it cannot leave a keypoint without a match."""
    from nmt.inference.image_matcher import load_image_matcher

    matcher = load_image_matcher(checkpoint, overrides=decode)
    if matcher.calibration is None:
        print(
            f"{checkpoint}: has no calibration, so every source keypoint gets a match and the scores are raw; a new "
            f"training that keeps val for validation writes one: {command('--train', 'NAME')}",
            file=sys.stderr,
        )
    return matcher


def warn(warnings: Iterable[str | None]) -> None:
    """Print each warning once, and of many the first."""
    told = list(dict.fromkeys(filter(None, warnings)))
    if told:
        more = f" (and {len(told) - 1} more such files)" if len(told) > 1 else ""
        print(f"warning: {told[0]}{more}", file=sys.stderr)


JOB = Job(
    flag="--match",
    argument="a search or training below --results, or the path of a best.pt",
    summary="match the keypoints of images of your own",
    description=(
        "Match the keypoints of two images, or of a list of pairs, with the winner of a search, a training or a "
        "best.pt. Print the matches with their confidence and the keypoints without a match, and draw both images. "
        "Matches below the confidence that best.pt holds are left out; --set decode.unmatched=off keeps them all."
    ),
    examples=(
        "--match willow --images A.jpg B.jpg --keypoints A.csv B.csv",
        "--match results/demo-train/best.pt --pairs list.csv --out matches",
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
        flag(
            "--pairs",
            "a CSV file of pairs instead: image0,keypoints0,image1,keypoints1, paths relative to the file",
            metavar="CSV",
            type=Path,
        ),
        flag(
            "--out",
            "the picture to write (default match.png); with --pairs the folder of the table and the pictures "
            "(default matches)",
            metavar="PATH",
            type=Path,
        ),
        DECODE,
        RESULTS,
        STORAGE,
        JSON,
    ),
    run=run,
)

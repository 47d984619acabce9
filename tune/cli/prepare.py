"""`--prepare NAME`: make an Arrow data set of a raw one, with stored features if the recipe trains on them."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.commands import command
from nmt.config import Config, with_overrides
from nmt.errors import UserError
from nmt.io.table import aligned
from nmt.recipes import check_name
from tune.cli import names
from tune.cli.configuration import data_of, has_default_recipe, recipe, recipe_line
from tune.cli.flags import DATA, JSON, SET, flag, one_of, refuse, seed_flag, switch, whole_number
from tune.cli.job import Job

if TYPE_CHECKING:
    from nmt.data.prepare.data_set import PreparedDataSet
    from nmt.data.prepare.features import FeatureRows
    from nmt.data.prepare.shards import ShardMaker

CODINGS = ("raw", "jpeg")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Options for making a data set, beside its configuration."""

    raw: Path | None = None
    seed: int = 0
    skip_bad: bool = False
    coding: str = CODINGS[0]
    difficulty: Mapping[str, Sequence[int]] = field(default_factory=dict)
    clip_to_box: bool = False
    backbone: str | None = None
    """another backbone to store features of, --features"""
    on_cluster: bool = False


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make the data set, or with --check verify it; print its counts."""
    default_recipe = has_default_recipe(args)
    if default_recipe:
        check_name(args.name)
    config = recipe(args, own=args.raw is not None)
    check_name(config.data.name)
    if args.check:
        ignored = [name for name in JOB.reads if name not in ("--check", "--data", "--json")]
        refuse(args, ignored, "--check only reads an existing data set; leave the flag out")
        return check(data_of(args, config))
    if args.views is not None:
        from nmt.data.prepare.data_set import feature_models

        if not feature_models(config, args.features):
            raise UserError("--views: no features are stored; add --features BACKBONE, or --set data.mode=features")
        config = with_overrides(config, {"data.views": args.views}, source="--views")
    from nmt.data.readers.spair import parse_difficulty
    from nmt.data.store.given_pairs import EVALUATION_ONLY

    request = Request(
        raw=args.raw,
        seed=args.seed or 0,
        skip_bad=args.skip_bad,
        coding=args.coding or CODINGS[0],
        difficulty=parse_difficulty(args.difficulty),
        clip_to_box=args.clip_to_box,
        backbone=args.features,
        on_cluster=args.ray,
    )
    out = data_of(args, config)
    made = make_data_set(config, out, request)
    if made.objects.info.options.get(EVALUATION_ONLY):
        print("next: " + command("--evaluate", "NAME", data=out) + "  # NAME: a training on another data set")
    elif default_recipe:
        print(recipe_line(config))
        print(next_lines(args, config))
    return {"data": out, "features": [str(table) for table in made.features]}


def next_lines(args: argparse.Namespace, config: Config) -> str:
    """Return the commands that a new data set of the user's own is looked at, trained and searched with."""
    name, in_features = config.data.name, config.data.mode == "features"
    place = {"data": args.data, "data_set": name}
    mode = [] if in_features else ["--set", f"data.mode={config.data.mode}"]
    commands = [
        (command("--inspect", name, **place), "a page to look at it"),
        (command("--train", name, *mode, **place), "one training"),
    ]
    if in_features:  # the recipe that --init writes trains on features
        commands.append((command("--init", name, **place), "a file to change the recipe, and to search"))
    rows = aligned([[line, f"# {why}"] for line, why in commands], left=2)
    return "next: " + rows.replace("\n", "\n      ")


def check(data: str) -> dict[str, Any]:
    """Verify every row and file of a data set, and print the result."""
    from nmt.data.store.verify import check as check_data

    verified = check_data(data, progress=sys.stderr.isatty())
    print(verified)
    return {"data": data, "objects": verified.rows, "counts": verified.info.counts, "files": verified.files}


def make_data_set(config: Config, out: str, request: Request) -> PreparedDataSet:
    """Make the objects, and the features that a recipe needs.

    Features are stored if the recipe trains on them, or if --features names a backbone.
    """
    from nmt.data.prepare.data_set import prepare_data_set

    with makers(request) as (make_shards, make_features):
        prepared = prepare_data_set(
            config,
            # Ray's processes have other working directories, so relative paths would not be found.
            raw=request.raw.resolve() if request.raw and request.on_cluster else request.raw,
            out=out,
            backbone=request.backbone,
            skip_bad=request.skip_bad,
            seed=request.seed,
            difficulty=request.difficulty,
            image_coding=request.coding,
            clip_to_box=request.clip_to_box,
            progress=sys.stderr.isatty(),
            shards=make_shards,
            rows=make_features,
        )
    print(prepared)
    return prepared


@contextlib.contextmanager
def makers(request: Request) -> Iterator[tuple[ShardMaker, FeatureRows | None]]:
    """Open the makers of objects and of features: on this machine, or with --ray on the nodes of a cluster."""
    if not request.on_cluster:
        from nmt.data.prepare.shards import make_shards

        yield make_shards, None
        return
    from tune.driver.ray_session import ray_session
    from tune.prepare_data import ray_features, ray_shards

    with ray_session(again="the same command continues"):
        yield ray_shards, ray_features


JOB = Job(
    flag="--prepare",
    argument="a recipe of search_spaces/, or a new name for images of your own",
    summary="make an Arrow data set of a raw one, or of images of your own, once",
    description=(
        "Make the Arrow data set that trainings read, in data/NAME: from a published raw data set, from a folder of "
        "your own images with a table of keypoints, or rendered (demo). Where the recipe trains on features, it stores "
        "those too. If the data set exists already, nothing is done. The same command continues an interrupted one."
    ),
    examples=("--prepare willow --raw data/raw/willow", "--prepare birds --raw birds --skip-bad"),
    names=names.recipes,
    flags=(
        flag("--raw", "folder of the raw data set; demo needs none", metavar="DIR", type=Path),
        DATA,
        SET,
        seed_flag("random seed of rendered images and rotated views (default 0)"),
        flag("--features", "also store features of this timm backbone", metavar="BACKBONE"),
        flag(
            "--views",
            "store features of K views per object: the plain image and K - 1 augmented ones",
            metavar="K",
            type=whole_number(1),
        ),
        flag(
            "--coding",
            "how images are stored: raw pixels, fast to read, or jpeg, small (default raw)",
            metavar="CODING",
            type=one_of(*CODINGS),
        ),
        switch("--skip-bad", "leave out files that cannot be read, and print how many"),
        flag(
            "--difficulty",
            "spair, spair_u: keep the pairs of these levels, such as viewpoint_variation=0,1; may be repeated",
            metavar="KEY=LEVELS",
            action="append",
            default=[],
        ),
        switch(
            "--clip-to-box",
            "cut COCO's objects at their box, and drop keypoints outside; by default the box is enlarged to hold them",
        ),
        switch("--ray", "work on all nodes of the Ray cluster"),
        switch("--check", "make nothing; verify every row and file of the data set"),
        JSON,
    ),
    run=run,
    interrupted="Interrupted. The same command continues.",
)

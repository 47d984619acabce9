#!/usr/bin/env python
"""The command line of the platform: prepare data, train, search, evaluate and use NMT.

Thin: reads the arguments and calls nmt or tune, which are imported inside the job, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nmt.config import Config, load_config, parse_assignment, with_overrides
from nmt.errors import FailedError, UserError, nearest
from nmt.training.files import BEST, CHECKPOINT
from tune.results.layout import ABLATED, CONFIRM, CONFIRMED, TRIALS
from tune.results.log import to_console

EPILOG = """\
start here, no download:    run.py --search demo
your data set, once:        run.py --prepare willow --raw DIR
one training:               run.py --train willow [--set optim.lr=1e-3]
a search:                   run.py --search willow --trials 32
its table again:            run.py --report willow
is its winner really one:   run.py --confirm willow --top 3 --seeds 5
the winner on unseen data:  run.py --evaluate willow --split test
two images of your own:     run.py --match willow --images A.jpg B.jpg --keypoints A.csv B.csv
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="NMT, the Normalized Matching Transformer: search, train and compare sparse keypoint matching.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    job = parser.add_mutually_exclusive_group(required=True)
    job.add_argument("--prepare", metavar="NAME", help="raw data set, or images of your own -> Arrow data set")
    job.add_argument("--download", metavar="NAME", help="the raw data set voc, spair or willow, into --raw DIR")
    job.add_argument("--train", metavar="NAME", help="one training: a recipe of search_spaces/, or a config.json")
    job.add_argument("--search", metavar="NAME", help="the search or ablation search_spaces/NAME.toml, or a TOML file")
    job.add_argument(
        "--confirm", metavar="NAME", help="the best of a search and its default again, over seeds; then test"
    )
    job.add_argument("--inspect", metavar="NAME", help="a page of sample pairs and histograms of a prepared data set")
    job.add_argument("--evaluate", metavar="NAME", help="accuracy of a search's winner, a training, or a best.pt")
    job.add_argument("--report", metavar="NAME", help="the table of a search again")
    job.add_argument("--match", metavar="NAME", help="match two images of your own")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a configuration key")
    parser.add_argument(
        "--raw", metavar="DIR", type=Path, help="raw data set, for --prepare, --download (data/raw/NAME)"
    )
    parser.add_argument(
        "--data", metavar="DIR", type=data_place, help="Arrow data set: a folder (default data/NAME), or s3://bucket/x"
    )
    parser.add_argument("--results", metavar="DIR", type=Path, default=Path("results"), help="default: results")
    parser.add_argument(
        "--storage", metavar="PLACE", help="where results live: a folder, or s3://bucket/x; --results is then scratch"
    )
    parser.add_argument("--features", metavar="BACKBONE", help="--prepare: also a table of this backbone's features")
    parser.add_argument("--views", metavar="K", type=int, help="--prepare: features of K augmented views an object")
    parser.add_argument("--ray", action="store_true", help="--prepare: on all nodes of the Ray cluster")
    parser.add_argument("--coding", choices=("raw", "jpeg"), default="raw", help="--prepare: how images are stored")
    parser.add_argument("--check", action="store_true", help="--prepare: verify every row of what is there")
    parser.add_argument("--skip-bad", action="store_true", help="--prepare: leave unreadable files out and count them")
    parser.add_argument(
        "--difficulty", metavar="KEY=LEVELS", action="append", default=[], help="--prepare spair: keep mirror=0, .."
    )
    parser.add_argument("--resume", action="store_true", help="--train, --search: go on where it was interrupted")
    parser.add_argument("--dry-run", action="store_true", help="--search: check everything, print the plan, no more")
    parser.add_argument("--trials", metavar="N", type=int, help="--search: configurations to try")
    parser.add_argument(
        "--workers",
        metavar="N",
        help="--train: data-parallel workers, or FEWEST:MOST of a group that shrinks and grows",
    )
    parser.add_argument("--seed", metavar="N", type=int, help="of the data, the training, or the search's sampler")
    parser.add_argument(
        "--top", metavar="K", type=int, default=3, help="--confirm: configurations beside the default (3)"
    )
    parser.add_argument("--seeds", metavar="N", type=int, help="--confirm, an ablation: trainings of each (3)")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="--evaluate: default val")
    parser.add_argument("--images", metavar="FILE", nargs=2, type=Path, help="--match: two images")
    parser.add_argument("--keypoints", metavar="CSV", nargs=2, type=Path, help="--match: name,x,y lines of each image")
    parser.add_argument("--out", metavar="PNG", type=Path, default=Path("match.png"), help="--match: the picture")
    parser.add_argument("--json", action="store_true", help="a machine-readable last line")
    return parser


def recipe(args: argparse.Namespace, name: str) -> Config:
    """The configuration of a job: a recipe by name or a JSON file, then --seed and --set."""
    from nmt.recipes import recipe as base_of

    place = args.data or Path("data") / name
    own = args.raw is not None or place.is_dir() or "://" in str(place)
    config = load_config(Path(name)) if name.endswith(".json") else base_of(name, own=own)
    return with_overrides(config, overrides(args), source="--set")


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    return dict(parse_assignment(text) for text in args.set)


def data_place(text: str) -> Path:
    """A folder, or the address of a data set, which takes pyarrow."""
    if "://" not in text:
        return Path(text)
    from nmt.data.store.node_copy import data_place as place_of

    return place_of(text)


def data_directory(args: argparse.Namespace, config: Config) -> Path:
    return args.data or Path("data") / config.data.name


def download(args: argparse.Namespace) -> dict[str, Any]:
    from nmt.data.readers.download import download as fetch

    raw = args.raw or Path("data") / "raw" / args.download
    fetch(args.download, raw, progress=sys.stderr.isatty())
    print(f"{raw}: complete; next: python run.py --prepare {args.download} --raw {raw}")
    return {"raw": str(raw)}


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    config = recipe(args, args.prepare)
    out = data_directory(args, config)
    if args.check:
        return check(out)
    report = prepare_data(args, config, out)
    return {"data": str(out), **report}


def check(directory: Path) -> dict[str, Any]:
    from nmt.data.store.verify import check as check_data

    verified = check_data(directory, progress=sys.stderr.isatty())
    print(verified)
    return {"data": str(directory), "objects": verified.rows, "counts": verified.info.counts, "files": verified.files}


def inspect(args: argparse.Namespace) -> dict[str, Any]:
    config = recipe(args, args.inspect)
    from nmt.data.inspect_page import write_page

    page = args.results / f"{config.data.name}-inspect.html"
    write_page(data_directory(args, config), config.data, page, seed=args.seed or 0)
    print(f"page: {page}")
    return {"page": str(page)}


def prepare_data(args: argparse.Namespace, config: Config, out: Path) -> dict[str, Any]:
    """The objects, and the features where the recipe trains on them or --features names a backbone."""
    from nmt.data.prepare.features import add_features
    from nmt.data.prepare.objects import prepare as prepare_objects
    from nmt.data.readers.spair import parse_difficulty
    from nmt.data.store.features import ViewOptions

    models = [config.model] if config.data.mode == "features" else []
    if args.features and args.features != config.model.backbone:
        models.append(dataclasses.replace(config.model, backbone=args.features))
    elif args.features and not models:
        models.append(config.model)
    if args.views:
        config = with_overrides(config, {"data.views": args.views}, source="--views")
    shown = {"progress": sys.stderr.isatty()}
    with makers(args) as (make_shards, make_features):
        report = prepare_objects(
            config,
            raw=args.raw,
            out=out,
            skip_bad=args.skip_bad,
            seed=args.seed or 0,
            difficulty=parse_difficulty(args.difficulty),
            image_coding=args.coding,
            make=make_shards,
            **shown,
        )
        print(report)
        views = ViewOptions.of(config.data)
        tables = [add_features(out, model, views=views, make=make_features, **shown) for model in models]
    for table in tables:
        print(f"features: {table}")
    return {"features": [str(table) for table in tables]}


@contextlib.contextmanager
def makers(args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    """What makes objects and features: this machine, or with --ray the nodes of a cluster."""
    if not args.ray:
        from nmt.data.prepare.features import feature_rows
        from nmt.data.prepare.shards import make_shards

        yield make_shards, feature_rows
        return
    from tune.driver.ray_session import ray_session
    from tune.prepare_data import ray_features, ray_shards

    args.raw = args.raw and args.raw.resolve()  # other processes work elsewhere
    with ray_session():
        yield ray_shards, ray_features


def train(args: argparse.Namespace) -> dict[str, Any]:
    config = recipe(args, args.train)
    if args.seed is not None:
        config = with_overrides(config, {"train.seed": args.seed}, source="--seed")
    directory = args.results / training_name(args.train)
    home = stored(args, directory)
    if home is not None and args.resume:
        home.take_over("")
    if ((directory / CHECKPOINT).exists() or (home is not None and home.holds(CHECKPOINT))) and not args.resume:
        raise UserError(
            f"{directory}: a training is there already; --resume goes on with it, --results DIR starts anew"
        )
    if args.workers is not None:
        from tune.driver.train_workers import train_together

        data = data_directory(args, config)
        best = train_together(config, workers=args.workers, data=data, directory=directory, storage=home)
        return trained(directory, best)
    from nmt.device import limit_threads
    from nmt.training.loop import train as run_training
    from nmt.training.out_of_memory import twice_within_memory

    limit_threads(config)
    place: dict[str, Any] = {"data": data_directory(args, config), "directory": directory}
    if args.train.endswith(".json"):
        from tune.results.definition import trial_decode_grid

        place["decode_grid"] = trial_decode_grid(Path(args.train), config)

    def on_epoch(_: object) -> None:
        if home is not None:
            home.put()

    try:
        report = twice_within_memory(
            lambda given, again: run_training(
                given, **place, on_epoch=on_epoch, resume=args.resume or again, progress=True
            ),
            config,
        )
    except KeyboardInterrupt:  # it has a checkpoint at the step
        if home is not None:
            home.put()
        raise
    return trained(directory, report.metrics)


def trained(directory: Path, best: dict[str, Any]) -> dict[str, Any]:
    """Says what a training came to: the metrics of its best epoch."""
    print(f"best epoch {best['epoch']}: validation accuracy {best['val/accuracy']:.1%} ({directory}/{BEST})")
    print(f"next: python run.py --evaluate {directory.name} --split test")
    return {"directory": str(directory), **best}


def stored(args: argparse.Namespace, directory: Path) -> Any:
    """The storage of what is in the directory; None without --storage."""
    if args.storage is None:
        return None
    from tune.results.storage import Storage, run_address

    return Storage(run_address(args.storage, directory.name), directory.resolve())


def training_name(name: str) -> str:
    """Directory of a training under --results: NAME-train; demo/best.json -> demo-best; trial 003 -> demo-003."""
    path = Path(name)
    if path.suffix != ".json":
        return f"{path.stem}-train"
    folder = path.resolve().parent
    if folder.parent.name == TRIALS:
        return f"{folder.parent.parent.name}-{folder.name}"
    return f"{folder.name}-{path.stem}"


def search(args: argparse.Namespace) -> dict[str, Any]:
    from nmt.recipes import read_recipe
    from tune.spaces.read import load_space

    file = read_recipe(args.search)
    if file.is_ablation:
        return ablate(args, file)
    space = load_space(file, overrides(args))
    data = data_directory(args, space.base)
    if space.base.data.name == "demo" and not args.dry_run:
        prepare_data(args, space.base, data)
    given = {"results": args.results, "data": data, "storage": args.storage, "trials": args.trials, "seed": args.seed}
    if space.fidelity:
        from tune.driver.two_stage import preview_stages, run_stages

        if args.dry_run:
            return preview_stages(space, **given)
        return run_stages(space, **given, resume=args.resume).to_dict()
    from tune.driver.search import preview_search, run_search

    if args.dry_run:
        return preview_search(space, **given).to_dict()
    return run_search(space, **given, resume=args.resume).to_dict()


def ablate(args: argparse.Namespace, file: Any) -> dict[str, Any]:
    from tune.evidence.ablation import load_ablation, run_ablation

    if args.trials is not None:
        raise UserError(f"--trials: {args.search} is an ablation, which has variants and --seeds")
    if args.storage is not None or args.dry_run:
        raise UserError(f"--storage, --dry-run: {args.search} is an ablation, which works in --results, for now")
    ablation = load_ablation(file, overrides(args), seeds=args.seeds, first_seed=args.seed)
    data = data_directory(args, ablation.base)
    return run_ablation(ablation, results=args.results, data=data, resume=args.resume).to_dict()


def report(args: argparse.Namespace) -> dict[str, Any]:
    from tune.driver import two_stage as stages
    from tune.evidence import ablation, confirm
    from tune.results.report import render
    from tune.results.summary import load_summary

    directory = find_run(args, args.report)
    if (directory / ABLATED).is_file():
        ablated = ablation.load_ablated(directory / ABLATED)
        print(ablation.render(ablated, directory))
        return ablated.to_dict()
    if stages.is_staged(directory):
        summary, text = stages.report(directory)
    else:
        summary = load_summary(directory)
        text = render(summary, directory)
    print(text)
    again = directory / CONFIRM / CONFIRMED
    if again.is_file():
        print("\n" + confirm.render(confirm.load_confirmed(again), again.parent))
    return summary.to_dict()


def confirm(args: argparse.Namespace) -> dict[str, Any]:
    directory = find_run(args, args.confirm)
    from tune.evidence.confirm import run_confirm

    seeds = 3 if args.seeds is None else args.seeds
    confirmed = run_confirm(
        directory, data=args.data, top=args.top, seeds=seeds, first_seed=args.seed, overrides=overrides(args)
    )
    return confirmed.to_dict()


def find_run(args: argparse.Namespace, name: str) -> Path:
    """The directory of a search or training under --results; raises UserError with the nearest name."""
    directory = args.results / name
    home = stored(args, directory)
    if home is not None:
        from tune.results.storage import fetch_results

        fetch_results(home)
    if not directory.is_dir():
        known = [p.name for p in args.results.iterdir() if p.is_dir()] if args.results.is_dir() else []
        raise UserError(f"{directory}: no search or training there; {nearest(name, known)}")
    return directory


def find_checkpoint(args: argparse.Namespace, name: str) -> Path:
    """The best weights of a search, of a training, or the file itself."""
    if name.endswith(".pt"):
        return Path(name)
    directory = find_run(args, name)
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


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    checkpoint = find_checkpoint(args, args.evaluate)
    from nmt.inference.evaluate import evaluate_checkpoint
    from nmt.inference.sample import draw_split

    result = evaluate_checkpoint(checkpoint, data=args.data, split=args.split)
    if args.split == "test":
        print("reading the test split: report this number, do not choose by it")
    setting = ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(result.decode).items())
    print(f"{checkpoint} on {result.pairs} {result.split} pairs ({setting})")
    print(result.table())
    picture = checkpoint.with_name(f"matches-{args.split}.png")
    write_picture(picture, draw_split(checkpoint, data=args.data, split=args.split))
    return {**dataclasses.asdict(result), "picture": str(picture)}


def write_picture(path: Path, image_HW3: Any) -> None:
    from PIL import Image

    from nmt.io.files import atomic_write

    with atomic_write(path) as file:
        Image.fromarray(image_HW3).save(file, "PNG")
    print(f"picture: {path}")


def match(args: argparse.Namespace) -> dict[str, Any]:
    if not args.images or not args.keypoints:
        raise UserError("--match needs --images A B and --keypoints A.csv B.csv (lines name,x,y in pixels)")
    checkpoint = find_checkpoint(args, args.match)
    from nmt.inference.match import match_images
    from nmt.inference.pictures import draw_pair

    pair, matches = match_images(checkpoint, args.images, args.keypoints)
    for source, target in matches:
        print(f"{source} -> {target}")
    write_picture(args.out, draw_pair(pair, side=384))
    return {"matches": dict(matches), "picture": str(args.out)}


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "prepare": prepare,
    "download": download,
    "inspect": inspect,
    "train": train,
    "search": search,
    "confirm": confirm,
    "evaluate": evaluate,
    "report": report,
    "match": match,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one job; 0 done, 2 a wrong request (one line on standard error), 1 it failed, 130 interrupted."""
    args = build_parser().parse_args(arguments)
    to_console()
    job = next(name for name in JOBS if getattr(args, name) is not None)
    try:
        result = JOBS[job](args)
    except UserError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run.py: interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    except FailedError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

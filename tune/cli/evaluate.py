"""`--evaluate NAME`: print the accuracy of a search's winner, a training or a checkpoint, beside three baselines."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.config import load_config
from nmt.data.store.present import require_data_set
from nmt.io.user_files import shown_path
from nmt.training.files import CONFIG
from tune.cli.configuration import decode_overrides
from tune.cli.flags import DATA, DECODE, JSON, RESULTS, STORAGE, flag, one_of, refuse, switch
from tune.cli.job import Job
from tune.cli.runs import find_checkpoint, trainings_below

SPLITS = ("val", "test")
NO_PCK = "no PCK: an earlier version made this data set, without the sizes of its objects; --prepare it again"
READS_TEST = "reading the test split: report this number, do not choose by it"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate, print the table, and draw some of the pairs."""
    decode, split = decode_overrides(args), args.split or SPLITS[0]
    if trainings := trainings_below(args):
        refuse(args, ["--dense"], "evaluates one training, not a folder of several")
        return over_seeds(args, trainings, split, decode)
    checkpoint, data = find_checkpoint(args), args.data
    require_data_of(checkpoint, data)
    from nmt.inference.evaluate import evaluate_checkpoint
    from nmt.inference.sample import draw_split
    from tune.cli.picture import write_picture
    from tune.evidence.readings import note_evaluation

    result = evaluate_checkpoint(checkpoint, data=data, split=split, decode=decode, outliers=True, dense=args.dense)
    if split == "test":
        print(READS_TEST)
    setting = ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(result.decode).items())
    print(f"{checkpoint} on {result.pairs} {result.split} pairs ({setting})")
    print(result.table())
    print(f"\n{result.pck.table() if result.pck is not None else NO_PCK}")
    if result.outliers is not None:
        print(f"\n{result.outliers.table()}")
    if split == "test":
        print(f"\n{note_evaluation(Path(result.folder), checkpoint)}")
    picture = checkpoint.with_name(f"matches-{split}.png")
    write_picture(picture, draw_split(checkpoint, data=data, split=split, decode=decode))
    return {**dataclasses.asdict(result), "picture": str(picture)}


def over_seeds(
    args: argparse.Namespace, trainings: Sequence[Path], split: str, decode: Mapping[str, Any]
) -> dict[str, Any]:
    """Evaluate trainings of several seeds; print and write the table of their means."""
    from tune.evidence.seeds import evaluate_seeds
    from tune.page.seeds import write_seeds
    from tune.results.layout import seeds_table

    if split == "test":
        print(READS_TEST)
    directory = args.results / args.name
    found = evaluate_seeds(directory, trainings, data=args.data, split=split, decode=decode)
    print(f"{found.table()}\n\nwritten to {directory / seeds_table(split)}")
    page = write_seeds(found, directory)
    print(f"page: {shown_path(page)}")
    return found.to_dict() | {"page": str(page)}


def require_data_of(checkpoint: Path, data: str | None) -> None:
    """Check that the data set of the evaluation exists, if it is known without loading the weights.

    Raises:
        UserError: it does not exist.
    """
    beside = checkpoint.with_name(CONFIG)
    if data is None and beside.is_file():
        name = load_config(beside).data.name
        require_data_set(f"data/{name}", name)
    if data is not None:
        require_data_set(data)


JOB = Job(
    flag="--evaluate",
    argument="a search, a training, or a folder of trainings below --results, or the path of a best.pt",
    summary="print the accuracy of a search's winner, a training or a best.pt",
    description=(
        "Print the accuracy per category on the evaluation pairs of a split, beside chance, keypoint positions alone "
        "and the untrained backbone's features. Below the mean is its 95 % interval over photographs. A second table "
        "has PCK: keypoints whose predicted target is near the true one, measured by the object's box. A third "
        "shows how well the matcher leaves out keypoints that have no partner. A picture of some matched pairs is "
        "written beside the checkpoint. "
        "Trainings of several seeds in one folder give the mean over the seeds with its 95 % interval over seeds and "
        "photographs. Read the test split once, to report; choose on validation. Its readings are counted beside the "
        "data."
    ),
    examples=("--evaluate willow --split test", "--evaluate willow-train --set decode.epsilon=0.05"),
    flags=(
        flag("--split", "val or test (default val)", metavar="SPLIT", type=one_of(*SPLITS)),
        switch("--dense", "also PCK of dense matching: without the target's keypoints, on the whole image; slower"),
        DATA,
        DECODE,
        RESULTS,
        STORAGE,
        JSON,
    ),
    run=run,
)

"""`--init NAME`: write search_spaces/NAME.toml, the recipe and the search of a data set of the user's own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from nmt import recipes
from nmt.commands import command
from nmt.config import Config
from nmt.data.store.present import OBJECTS_FILE, prepare_command
from nmt.errors import UserError
from nmt.io.address import is_address
from nmt.io.files import atomic_write, output_folder
from nmt.recipes import OWN_RECIPE, check_name, has_file, recipe, shown_path
from tune.cli import names
from tune.cli.flags import DATA, JSON
from tune.cli.job import Job

FEWEST_STEPS, MOST_STEPS = 20, 80
"""steps of an epoch: for 20 pictures, and for 1,000 or more"""
VAL_PAIRS = 600
"""validation pairs of all categories together"""

TEXT = """\
description = "{description}"
from = "{start}"

# This file is the recipe of the data set {name}: run.py --prepare, --inspect, --train and --search {name} read it.
# Every key: run.py --keys. After a change of data.image_size or of the backbone, run --prepare {name} again.
[base]
{data}
# The learning rate, optim.lr, is {lr:g} in "{start}"; it drops to a tenth after epoch {milestone}.
optim = {{ milestones = [{milestone}] }}
# {size}: {pairs} pairs per epoch. More pictures deserve more steps.
train = {{ epochs = {epochs}, steps_per_epoch = {steps} }}

# What run.py --search {name} varies. Delete a line to keep the value of [base] or of "{start}".
[space]
# learning rate, and the temperature of the matching loss
"optim.lr" = {{ low = 3e-4, high = 2e-2, log = true }}
"loss.temperature" = {{ low = 0.02, high = 0.5, log = true }}
# weights of the other two losses: spread of the features, and matching after every decoder layer
"loss.hyperspherical" = {{ low = 0.0, high = 2.0 }}
"loss.layer" = {{ low = 0.0, high = 1.0, step = 0.1 }}
# depth of the decoder
"model.decoder_layers" = {{ low = 1, high = 4 }}
# Read at inference, so they cost no training: each trial tries all values on its validation similarities.
"decode.sinkhorn_iterations" = {{ values = [0, 1, 3, 10, 27, 50] }}
"decode.epsilon" = {{ values = [0.02, 0.035, 0.05, 0.1, 0.2] }}

# A trial that is worse than two thirds of the others after an epoch is stopped early (asha).
[search]
sampler = "tpe"
scheduler = "asha"
trials = 16
grace_epochs = 1
reduction_factor = 3

# Of one trial. As many trials run at once as the machine has room for.
[resources]
cpus = 1
gpus = 0
workers = 1
"""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the file and print the next commands."""
    name = check_name(args.name)
    path = recipes.OWN_FOLDER.absolute() / f"{name}.toml"
    if has_file(name):
        there = recipes.find_recipe(name)
        remedy = "edit it, or" if there.absolute() == path else "it comes with the project, so"
        raise UserError(f"{shown_path(there)}: is there already; {remedy} choose another name")
    data = args.data or f"data/{name}"
    text = file_text(name, data)
    with output_folder(path.parent), atomic_write(path) as file:
        file.write(text.encode())
    config, place = recipe(path), {"data": args.data, "data_set": name}
    print(f"wrote {shown_path(path)}: {config.train.epochs} epochs of {config.train.steps_per_epoch} steps, 16 trials")
    if not is_address(data) and not (Path(data) / OBJECTS_FILE).is_file():
        print(f"next: {prepare_command(name, data=args.data)}")
    print(f"next: {command('--search', name, '--trials', '4', **place)}")
    print(f"      {command('--train', name, **place)}")
    return {"file": str(path)}


def file_text(name: str, data: str) -> str:
    """Return the content of the file, with steps that fit the data set where it is prepared already.

    Raises:
        UserError: the data set is damaged.
    """
    base, keys, size, steps = recipe(OWN_RECIPE), [], "Fits 20 to 200 pictures", FEWEST_STEPS
    eval_pairs = 200
    if not is_address(data) and os.path.isfile(Path(data) / OBJECTS_FILE):
        from nmt.data.store.objects import ObjectStore

        info = ObjectStore.open(Path(data)).info
        objects = sum(info.counts["train"].values())
        steps, size = steps_for(objects, base), f"Fits the {objects} objects of the training split"
        eval_pairs = max(20, min(200, VAL_PAIRS // len(info.categories)))
        if info.image_size != base.data.image_size:
            keys.append(f"image_size = {info.image_size}")
    keys.append(f"eval_pairs = {eval_pairs}")
    epochs = 6
    return TEXT.format(
        name=name,
        start=OWN_RECIPE,
        description="pictures of my own, a small head on stored features",
        data="# eval_pairs: validation pairs of each category, or all if there are fewer\n"
        f"data = {{ {', '.join(keys)} }}",
        epochs=epochs,
        steps=steps,
        milestone=epochs - 2,
        lr=base.optim.lr,
        pairs=steps * base.data.pairs_per_step,
        size=size,
    )


def steps_for(objects: int, base: Config) -> int:
    """Return the steps of an epoch: each training object in about two pairs, and a multiple of 5."""
    steps = 5 * round(2 * objects / base.data.pairs_per_step / 5)
    return min(max(steps, FEWEST_STEPS), MOST_STEPS)


JOB = Job(
    flag="--init",
    argument="the name of a data set of your own: letters, digits, _ and -",
    summary="write search_spaces/NAME.toml for pictures of your own, ready to search and to edit",
    description=(
        "Write search_spaces/NAME.toml, a commented recipe and search space for pictures of your own: a small head on "
        "stored features. It searches learning rate, temperature, weights of the losses and depth. If the data set is "
        "prepared already, the number of steps fits it. An existing file is never changed."
    ),
    examples=("--init birds", "--init birds --data data/birds192"),
    names=names.new,
    flags=(DATA, JSON),
    run=run,
)

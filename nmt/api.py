"""The Python API: prepare, train and evaluate, with recipes by name, paths as text and the command line's defaults."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.config import Config, load_config, with_overrides
from nmt.data.store.own_data import fitted, require_own_features
from nmt.errors import UserError
from nmt.inference.repository import WEIGHTS
from nmt.recipes import check_name, has_file
from nmt.recipes import recipe as read_recipe
from nmt.training import files

if TYPE_CHECKING:
    import torch

    from nmt.data.prepare.data_set import PreparedDataSet
    from nmt.inference.evaluate import Evaluation
    from nmt.inference.image_matcher import ImageMatcher
    from nmt.training.history import EpochResult

_LOG = logging.getLogger("nmt.training")

DATA, RESULTS = Path("data"), Path("results")
"""default folders of data sets and of trainings"""


def prepare(
    recipe: str | Path | Config,
    *,
    raw: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    difficulty: Mapping[str, Sequence[int]] | None = None,
    image_coding: str = "raw",
    clip_to_box: bool = False,
    progress: bool = False,
) -> PreparedDataSet:
    """Make the Arrow data set of a recipe. An existing one is kept.

    It starts processes: a script must call it under `if __name__ == "__main__":`.

    Args:
        recipe: a recipe by name or TOML file, a config.json, or a configuration. With `raw`, any other name
            is a data set of your own.
        raw: folder of the raw data set; None for the demo, which is rendered.
        out: the data set to make, a folder or an address; by default data/NAME.
        overrides: configuration keys to change, {"data.image_size": 256}.
        backbone: also make a table of this backbone's features.
        skip_bad: leave unreadable files out and count them.
        seed: seed of rendering and of rotated views.
        difficulty: the levels of given pairs to keep, {"mirror": [0]} (SPair-71k).
        image_coding: raw or jpeg.
        clip_to_box: cut COCO's objects at their box, and drop keypoints outside; by default the box is enlarged to
            hold them.
        progress: show progress bars on standard error.

    Returns:
        The objects made, and the paths of the tables of features. Printing it prints a table.

    Raises:
        UserError: no such recipe or raw data set, an unreadable file, or weights that cannot be loaded.
    """
    from nmt.data.prepare.data_set import prepare_data_set

    config = _configuration(recipe, overrides, data=out, own=raw is not None)
    check_name(config.data.name)
    return prepare_data_set(
        config,
        raw=None if raw is None else Path(raw),
        out=_data(config, out),
        backbone=backbone,
        skip_bad=skip_bad,
        seed=seed,
        difficulty=difficulty,
        image_coding=image_coding,
        clip_to_box=clip_to_box,
        progress=progress,
    )


def train(
    recipe: str | Path | Config,
    *,
    data: str | Path | None = None,
    directory: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: bool = False,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> EpochResult:
    """Train a recipe; its folder then holds best.pt, config.json, metrics.jsonl and checkpoint.pt.

    If memory runs out, it trains once more with half the pairs at a time; the result is the same.

    Args:
        recipe: a recipe by name or TOML file, a config.json (best.json of a search), or a configuration.
        data: the Arrow data set, a folder or an address; by default data/NAME.
        directory: folder of the training; by default results/NAME-train, by the name of the recipe, or of the data set
            for a configuration.
        overrides: configuration keys to change, {"optim.lr": 1e-3}.
        resume: continue from the checkpoint in `directory`, if there is one.
        progress: show a progress bar on standard error, and log the size and estimated time (logger nmt.training).
        on_epoch: called with the metrics after each epoch.

    Returns:
        The metrics of the epoch with the best validation accuracy; of the last one where val is trained on.

    Raises:
        UserError: no such recipe, data set or logger, or a training in `directory` that is not to be resumed.
        FailedError: the loss is no longer finite.
    """
    from nmt.data.store.ready import local_data
    from nmt.device import limit_threads
    from nmt.training.logger import check_loggers
    from nmt.training.loop import train as run_training
    from nmt.training.out_of_memory import twice_within_memory
    from nmt.training.plan import plan_training

    config = _configuration(recipe, overrides, data=data, own=data is not None)
    by_name = not isinstance(recipe, Config) and not str(recipe).endswith(".json")
    name = f"{Path(str(recipe)).stem if by_name else config.data.name}-train"
    source, folder = _data(config, data), Path(directory or RESULTS / name)
    if _is_default_of_own_data(recipe):
        require_own_features(config, source)
    if not resume and (folder / files.CHECKPOINT).exists():
        raise UserError(f"{folder}: already holds a training; resume it with resume=True, or choose a directory")
    check_loggers(config)
    limit_threads(config)
    here = local_data(source, config)

    def attempt(chosen: Config, again: bool) -> EpochResult:
        resumed = resume or again
        if progress:
            _LOG.info("%s", plan_training(chosen, data=here, directory=folder, resume=resumed))
        return run_training(chosen, data=here, directory=folder, on_epoch=on_epoch, resume=resumed, progress=progress)

    return twice_within_memory(attempt, config)


def evaluate(checkpoint: str | Path, *, data: str | Path | None = None, split: str = "val") -> Evaluation:
    """Evaluate a trained matcher and the baselines on the evaluation pairs of a split.

    Args:
        checkpoint: a checkpoint (best.pt), or the folder of a training.
        data: the Arrow data set, a folder or an address; by default data/NAME of the checkpoint's configuration.
        split: train, val or test.

    Returns:
        The accuracy per method and category, in [0, 1]; `pck`, None for a data set of an earlier version; and
        `outliers`, how well it leaves out keypoints that have no partner. The `table()` of each prints them.

    Raises:
        UserError: no such checkpoint, data set or split.
    """
    from nmt.data.store.objects import SPLITS
    from nmt.data.store.readings import add_reading
    from nmt.inference.evaluate import evaluate_checkpoint
    from nmt.io.file_record import record

    if split not in SPLITS:
        raise UserError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    path = _checkpoint(checkpoint)
    found = evaluate_checkpoint(path, data=data, split=split, outliers=True)
    if split == "test":
        _LOG.info("%s", add_reading(Path(found.folder), path.resolve().parent.name, [record(path).sha256]))
    return found


def load_matcher(
    path: str | Path, *, overrides: Mapping[str, Any] | None = None, device: torch.device | str | None = None
) -> ImageMatcher:
    """Load a trained matcher once, for any number of image pairs.

    A match below the confidence that the checkpoint holds is left out; decode.unmatched chooses another one, and "off"
    matches every source keypoint. A checkpoint without a calibration matches every one.

    Args:
        path: a checkpoint (best.pt), or the folder of a training, or a repository that `--export --hub` wrote.
            `tune.best_checkpoint` finds the checkpoint of a search.
        overrides: configuration keys read at inference, {"decode.assignment": "hungarian"}.
        device: device it runs on; by default the GPU if there is one.

    Raises:
        UserError: no such checkpoint, a damaged one, or a key in `overrides` that is not read at inference.
    """
    from nmt.inference.image_matcher import load_image_matcher

    return load_image_matcher(_checkpoint(path), overrides=overrides, device=device)


def export(checkpoint: str | Path, out: str | Path) -> None:
    """Write a checkpoint under the parameter names of the published implementation.

    Args:
        checkpoint: a checkpoint (best.pt), or the folder of a training.
        out: the params.pt to write.
    """
    from nmt.reference import export_published

    export_published(_checkpoint(checkpoint), Path(out))


def _configuration(
    recipe: str | Path | Config, overrides: Mapping[str, Any] | None, *, data: str | Path | None, own: bool
) -> Config:
    """Return the configuration that a caller asks for; the data set `data` decides what its own recipe is.

    Args:
        own: accept a name without a recipe as a data set of the user's own, even if it is not prepared yet.
    """
    changed = overrides or {}
    if isinstance(recipe, Config):
        return with_overrides(recipe, changed, source="overrides")
    if str(recipe).endswith(".json"):
        return with_overrides(load_config(Path(recipe)), changed, source="overrides")
    config = read_recipe(recipe, own=own or os.path.isdir(DATA / recipe))
    config = with_overrides(config, changed, source="overrides")
    return fitted(config, _data(config, data), chosen=changed) if _is_default_of_own_data(recipe) else config


def _is_default_of_own_data(recipe: str | Path | Config) -> bool:
    return not isinstance(recipe, Config) and not str(recipe).endswith(".json") and not has_file(recipe)


def _data(config: Config, data: str | Path | None) -> str:
    return str(data or DATA / config.data.name)


def _checkpoint(path: str | Path) -> Path:
    """Return the weights in the folder of a training or a repository; `path` if it is a file. Raises UserError."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (files.BEST, WEIGHTS):
        if (path / name).is_file():
            return path / name
    raise UserError(f"{path}: no {files.BEST} in this folder; give a training's folder or a checkpoint file")

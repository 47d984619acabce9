"""The state of a training on disk: saved, restored and written for evaluation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from nmt import checkpoint, distributed
from nmt.config import comparable, differences, from_dict, to_dict, to_flat
from nmt.data.store.identity import check_same, data_set_record, saved_record
from nmt.errors import UserError
from nmt.io.files import remove_partials, write_json
from nmt.training.files import CHECKPOINT, CONFIG, DATA_SET
from nmt.training.history import Progress, write_metrics
from nmt.training.trainer import Trainer


def save(trainer: Trainer, path: Path) -> None:
    """Save the whole state for `restore`. Every rank calls it; rank 0 writes."""
    progress = dataclasses.asdict(dataclasses.replace(trainer.progress, loss_sums=trainer.loss_sums()))
    if distributed.rank() == 0:
        checkpoint.save(path, {**_weights(trainer), "optimizer": trainer.optimizer.state_dict(), "progress": progress})


def save_best(trainer: Trainer, path: Path, metrics: dict[str, Any]) -> None:
    """Save the weights alone, for evaluation, with the best decoding in the configuration."""
    decode = {name: metrics[f"decode/{name}"] for name in dataclasses.asdict(trainer.config.decode)}
    config = {**to_dict(trainer.config), "decode": decode}
    checkpoint.save(path, {**_weights(trainer), "config": config, "epoch": metrics["epoch"], "metrics": metrics})


def _weights(trainer: Trainer) -> dict[str, Any]:
    """Return weights, configuration and categories; the weights of a frozen backbone, which are known, are not."""
    frozen = trainer.matcher.backbone is not None and trainer.config.optim.backbone_lr_scale == 0
    # Cloned: a packed training's weights are views of the pack's, and torch.save would write the whole pack's.
    weights = trainer.matcher.state_dict()
    model = {k: v.clone() for k, v in weights.items() if not (frozen and k.startswith("backbone."))}
    info = trainer.store.info
    known = {"categories": list(info.categories), "data_set": info.identity}
    return {"model": model, "config": to_dict(trainer.config), **known}


def begin(trainer: Trainer, directory: Path, *, resume: bool) -> None:
    """Prepare a run in `directory`: restore its checkpoint if `resume` is set, and write config.json.

    Raises:
        UserError: with `resume`, the folder holds a training on another data set, or an error of `restore`.
    """
    identity, data = trainer.store.info.identity, trainer.store.directory
    if resume:
        check_same(saved_record(directory / DATA_SET), identity, where=directory, data=data)
    if resume and (directory / CHECKPOINT).is_file():
        restore(trainer, directory / CHECKPOINT)
    if distributed.rank() == 0:
        remove_partials(directory)
        write_json(directory / CONFIG, to_dict(trainer.config))
        write_json(directory / DATA_SET, data_set_record(identity, data))
        if trainer.progress.history:  # after a crash between checkpoint and metrics, the file lacks an epoch
            write_metrics(directory, trainer.progress)


def restore(trainer: Trainer, path: Path) -> None:
    """Restore the state that `save` wrote, with any number of ranks.

    Raises:
        UserError: the checkpoint belongs to another configuration or data set, or cannot be read.
    """
    content = checkpoint.load(path)
    saved = from_dict(content["config"], source=str(path))
    if different := differences(to_flat(comparable(saved)), to_flat(comparable(trainer.config))):
        raise UserError(
            f"{path}: a checkpoint of another configuration: {different}; choose another --results or the same settings"
        )
    check_same(content.get("data_set"), trainer.store.info.identity, where=path, data=trainer.store.directory)
    trainer.matcher.load_state_dict(content["model"], strict=trainer.config.optim.backbone_lr_scale > 0)
    trainer.optimizer.load_state_dict(content["optimizer"])
    trainer.progress = Progress(**content["progress"])
    if distributed.rank() > 0:  # the file holds the sums over all ranks; rank 0 continues them
        trainer.progress.loss_sums = dict.fromkeys(trainer.progress.loss_sums, 0.0)

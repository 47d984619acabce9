"""The state of a training on disk: saved, restored and written for evaluation."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nmt import checkpoint, distributed
from nmt.checkpoint import DamagedError
from nmt.config import comparable, flatten, from_dict, to_dict, to_flat
from nmt.data.store.identity import check_same, data_set_record, saved_record
from nmt.errors import FailedError, TemporaryError, UserError
from nmt.io.files import remove_partials, write_json
from nmt.model.matcher import Matcher
from nmt.settings import differences
from nmt.training.calibration import calibrate
from nmt.training.files import BEST, CHECKPOINT, CONFIG, DATA_SET, METRICS, PREVIOUS
from nmt.training.history import Progress, write_metrics
from nmt.training.trainer import Trainer

log = logging.getLogger(__name__)

_BEFORE = {"loss.reduction": "pairs", "model.drop_path": 0.0, "data.redraw": "objects", "data.mix_partner": "objects"}
"""what trainings did before a key was there -> its value, for checkpoints that lack it"""

_KEPT = ("model", "categories", "keypoint_names", "data_set")
"""what best.pt holds of a whole state, beside its configuration"""

_Choice = tuple[str | None, str | None, UserError | None]
"""file to restore and its hash, both None to begin anew; or the error that ends the training"""


def save(trainer: Trainer, path: Path) -> None:
    """Save the whole state for `restore`, and keep the one saved before. Every rank calls it; rank 0 writes."""
    content = snapshot(trainer)
    if content is not None:
        write(content, path)


def snapshot(trainer: Trainer) -> dict[str, Any] | None:
    """Copy the whole state to memory that no later step changes. Every rank calls it; only rank 0 gets the copy.

    The copy takes as much memory of the host as the checkpoint is large.
    """
    progress = dataclasses.asdict(dataclasses.replace(trainer.progress, loss_sums=trainer.loss_sums()))
    if distributed.rank() > 0:
        return None
    whole = {**_weights(trainer), "optimizer": trainer.optimizer.state_dict(), "progress": progress}
    return copied(whole, trainer.device)


def copied(content: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Copy what a checkpoint holds, with its tensors on the CPU; `device` is where they are."""
    copy: dict[str, Any] = _copy(content)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the copies to page-locked memory run in the background
    return copy


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        on_gpu = value.device.type == "cuda"
        # A tensor of its own: a packed training's weights are views of the pack's, all of which torch would write.
        copy = torch.empty_like(value, device="cpu", pin_memory=on_gpu)
        return copy.copy_(value.detach(), non_blocking=on_gpu)
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return value


def write(content: dict[str, Any], path: Path) -> None:
    """Write a `snapshot`, and keep the one written before."""
    checkpoint.save(path, content, previous=path.with_name(PREVIOUS))


def write_best(path: Path, weights: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write the weights of a snapshot, or checkpoint, alone: for evaluation, with the best decoding.

    The average of the weights replaces them, if there is one.
    """
    weights = {**weights, "model": weights.get("average", weights["model"])}
    decode = {name: metrics.get(f"decode/{name}", value) for name, value in weights["config"]["decode"].items()}
    content: dict[str, Any] = {key: weights[key] for key in _KEPT if key in weights}
    config = {**weights["config"], "decode": decode}
    checkpoint.save(path, {**content, "config": config, "epoch": metrics["epoch"], "metrics": metrics})


def _weights(trainer: Trainer) -> dict[str, Any]:
    """Return weights, their average if there is one, configuration and categories."""
    model: dict[str, Any] = {"model": _own(trainer.matcher, trainer)}
    if trainer.average is not None:
        model["average"] = _own(trainer.average.matcher, trainer)
    info = trainer.store.info
    names = {category: list(several) for category, several in info.keypoint_names.items()}
    known = {"categories": list(info.categories), "keypoint_names": names, "data_set": info.identity}
    return {**model, "config": to_dict(trainer.config), **known}


def _own(matcher: Matcher, trainer: Trainer) -> dict[str, Any]:
    """Return the weights of a matcher without those of a frozen backbone, which are known."""
    frozen = matcher.backbone is not None and trainer.config.optim.backbone_lr_scale == 0
    return {k: v for k, v in matcher.state_dict().items() if not (frozen and k.startswith("backbone."))}


def begin(trainer: Trainer, directory: Path, *, resume: bool) -> None:
    """Prepare a run in `directory`: restore what is there if `resume` is set, and write config.json.

    A damaged checkpoint is replaced by the one saved before it. Without that, or without best.pt and the weights to
    write it again, the training begins anew. Each is logged.

    Raises:
        UserError: with `resume`, the folder holds a training on another data set or a checkpoint of another
            configuration; or a disk that cannot be written to.
    """
    identity, data = trainer.store.info.identity, trainer.store.directory
    if resume:
        check_same(saved_record(directory / DATA_SET), identity, where=directory, data=data)
        _resume(trainer, directory)
        calibrate(trainer, directory)  # if the process died between its last epoch and that
    if distributed.rank() == 0:
        remove_partials(directory)
        write_json(directory / CONFIG, to_dict(trainer.config))
        write_json(directory / DATA_SET, data_set_record(identity, data))
        # After a crash between checkpoint and metrics the file lacks an epoch; after a damage it has too many.
        if trainer.progress.history or (resume and (directory / METRICS).is_file()):
            write_metrics(directory, trainer.progress)


def _resume(trainer: Trainer, directory: Path) -> None:
    """Restore the newest state that is whole. Rank 0 decides which; every rank restores the same."""
    first = distributed.rank() == 0
    choice: _Choice = (None, None, None)
    content: dict[str, Any] = {}
    if first:
        try:
            choice, content = _choose(trainer, directory)
        except UserError as error:  # raised on every rank, for the others would wait for this one
            choice = (None, None, error)
    name, written, wrong = distributed.from_first(choice)
    if wrong is not None:
        raise wrong
    if name is not None:
        path = directory / name
        if not first:
            if checkpoint.digest(path) != written:
                raise RuntimeError(f"{path}: the workers see different files; is it one folder on all nodes?")
            content = checkpoint.load(path)
        _apply(trainer, content)
    distributed.barrier()  # nobody reads any more
    if first:
        _tidy(directory, name)


def _tidy(directory: Path, restored: str | None) -> None:
    """Remove the checkpoints that cannot be used; the next save would keep one of them as the previous."""
    if restored is None:
        for name in (CHECKPOINT, PREVIOUS):
            (directory / name).unlink(missing_ok=True)
    elif restored == PREVIOUS:
        (directory / PREVIOUS).replace(directory / CHECKPOINT)


def _choose(trainer: Trainer, directory: Path) -> tuple[_Choice, dict[str, Any]]:
    """Find the checkpoint to resume from, with its content; none to begin anew. Writes best.pt again if it is lost."""
    damaged: list[str] = []
    for name in (CHECKPOINT, PREVIOUS):
        path = directory / name
        if path.is_dir():  # nothing could be saved there
            raise TemporaryError(f"{path}: a folder, where a file belongs; remove it, then continue with --resume")
        content = _read(path, damaged) if path.is_file() else None
        if content is None:
            continue
        try:
            _check_fits(trainer, path, content)
        except UserError:
            if not _is_of(trainer, directory):
                raise
            damaged.append(f"{name} is of another training")  # copied here by mistake
            continue
        if damaged:
            place = f"after epoch {content['progress']['epoch']}, step {content['progress']['step']}"
            log.warning("%s: %s; resuming from the one before, %s", directory, damaged[0], place)
        if not _has_best(directory, name, content):
            break
        return (name, checkpoint.digest(path), None), content
    else:
        if damaged or (directory / METRICS).is_file():
            log.warning("%s: %s; beginning anew", directory, ", ".join(damaged) or f"no {CHECKPOINT} there")
    return (None, None, None), {}


def _read(path: Path, damaged: list[str]) -> dict[str, Any] | None:
    """Load a file of the training; None, and a line in `damaged`, if its content is not what was written."""
    try:
        return checkpoint.load(path)
    except DamagedError:
        damaged.append(f"{path.name} is damaged")
        return None


def _has_best(directory: Path, name: str, content: dict[str, Any]) -> bool:
    """True if best.pt holds the best epoch of the checkpoint `content`, or could be written again from a checkpoint."""
    progress = Progress(**content["progress"])
    if not progress.history:
        return True
    path, best, lost = directory / BEST, progress.best(), [f"no {BEST} there"]
    if path.is_file():
        lost = []
        there = _read(path, lost)
        other = there is not None and _other_training(content["config"], there["config"], path)
        # A later epoch than the checkpoint's: the process died between the two files, and the epoch comes again.
        if there is not None and not other and (there["epoch"] == best.epoch or there["epoch"] > progress.epoch):
            return True
        lost = lost or [f"{BEST} is {'of another training' if other else f'not of epoch {best.epoch}, the best'}"]
    previous = directory / PREVIOUS
    others = [_read(previous, [])] if name == CHECKPOINT and previous.is_file() else []
    for weights in (content, *others):
        if weights is not None and (weights["progress"]["epoch"], weights["progress"]["step"]) == (best.epoch, 0):
            write_best(path, weights, best.metrics)
            log.warning("%s: %s; written again from the checkpoint of that epoch", directory, lost[0])
            return True
    log.warning("%s: %s, and no checkpoint has the weights of epoch %d; beginning anew", directory, lost[0], best.epoch)
    return False


def _other_training(ours: dict[str, Any], theirs: dict[str, Any], path: Path) -> bool:
    """True if weights are not of the training whose configuration is `ours`, whatever decoding they carry."""
    return comparable(from_dict(theirs | {"decode": ours["decode"]}, source=str(path))) != comparable(
        from_dict(ours, source=str(path))
    )


def check_best(directory: Path) -> None:
    """Raise FailedError if best.pt, which an earlier epoch wrote, is not there any more."""
    if not (directory / BEST).is_file():
        raise FailedError(f"{directory / BEST}: removed while the training ran; continue with --resume")


def restore(trainer: Trainer, path: Path) -> None:
    """Restore the state that `save` wrote, with any number of ranks.

    Raises:
        UserError: the checkpoint belongs to another configuration or data set, or cannot be read.
    """
    content = checkpoint.load(path)
    _check_fits(trainer, path, content)
    _apply(trainer, content)


def _is_of(trainer: Trainer, directory: Path) -> bool:
    """True if the folder itself records that it is of this training: configuration and data set."""
    data, config = saved_record(directory / DATA_SET), saved_record(directory / CONFIG)
    if not isinstance(data, Mapping) or data.get("identity") != trainer.store.info.identity:
        return False
    if not isinstance(config, Mapping):
        return False
    return comparable(from_dict(config, source=str(directory / CONFIG))) == comparable(trainer.config)


def _check_fits(trainer: Trainer, path: Path, content: dict[str, Any]) -> None:
    saved = from_dict(_BEFORE | flatten(content["config"], source=str(path)), source=str(path))
    if different := differences(to_flat(comparable(saved)), to_flat(comparable(trainer.config))):
        raise UserError(
            f"{path}: a checkpoint of another configuration: {different}; choose another --results or the same settings"
        )
    check_same(content.get("data_set"), trainer.store.info.identity, where=path, data=trainer.store.directory)


def _apply(trainer: Trainer, content: dict[str, Any]) -> None:
    whole = trainer.config.optim.backbone_lr_scale > 0
    trainer.matcher.load_state_dict(content["model"], strict=whole)
    if trainer.average is not None:
        trainer.average.matcher.load_state_dict(content["average"], strict=whole)
    trainer.optimizer.load_state_dict(content["optimizer"])
    trainer.progress = Progress(**content["progress"])
    if distributed.rank() > 0:  # the file holds the sums over all ranks; rank 0 continues them
        trainer.progress.loss_sums = dict.fromkeys(trainer.progress.loss_sums, 0.0)

"""The configuration of one training: a frozen dataclass tree whose defaults are the published PascalVOC recipe.

Values change through one door, `with_overrides`, whatever they come from (`--set`, a search space, a trial, a JSON
file); it checks name, type and range and names the nearest right key in its error.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.data_config import DataConfig as DataConfig
from nmt.errors import UserError, nearest
from nmt.extensions import LOSS_TERMS
from nmt.settings import Setting, setting
from nmt.unmatched import OFF, UNMATCHED


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The backbone, and the head that refines and compares its keypoint features."""

    backbone: str = setting(
        "swinv2_base_window12to24_192to384",
        "name of a timm model that gives two feature levels, for instance vit_base_patch14_dinov2 or vgg16_bn",
    )
    weights: str = setting(
        "hub",
        "initial backbone weights: hub downloads timm's, package uses those installed with the project, random draws "
        "them, anything else is the path of a file",
    )
    drop_path: float = setting(
        0.2,
        "stochastic depth of a backbone that trains on images: probability that its last block's residual branches are "
        "left out for an image, less in earlier blocks, 0 in the first; 0 turns it off; no effect on a net without "
        "residual blocks (VGG)",
        low=0,
        high=0.9,
    )
    d_model: int = setting(648, "width of the keypoint tokens; a multiple of model.heads", low=4)
    heads: int = setting(12, "attention heads of each decoder layer", low=1)
    decoder_layers: int = setting(4, "decoder layers on each side of the pair", low=1, high=64)
    mlp_multiplier: float = setting(
        6.0, "size of the MLP in a decoder layer: its hidden width is int(model.d_model x this x 2/3)", above=0
    )
    feature_projection: int = setting(
        0, "width of a learned projection of the backbone features before the spline convolutions; 0 uses none", low=0
    )
    normalized: bool = setting(
        True, "keep decoder weights and tokens on the unit sphere; false uses a plain pre-norm transformer (ablation)"
    )
    spline: bool = setting(
        True, "refine keypoints by spline convolutions over their graph; false leaves them out (ablation)"
    )
    spline_backend: str = setting(
        "matmul",
        "implementation of the spline convolution: matmul is this project's, torch_spline_conv the compiled kernels of "
        "that package, pyg the layer of PyTorch Geometric; parameters and results are the same",
        choices=("matmul", "torch_spline_conv", "pyg"),
    )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The training loss: a matching term and two hyperspherical terms."""

    temperature: float = setting(0.1, "temperature of the InfoNCE loss", above=0)
    matching: str = setting(
        "infonce",
        "matching loss: infonce; sinkhorn, the likelihood of the Sinkhorn assignment, for which decode.* act in "
        "training; or cross_entropy of that assignment (ablation)",
        choices=("infonce", "sinkhorn", "cross_entropy"),
    )
    reduction: str = setting(
        "keypoints",
        "what counts the same in the matching loss: keypoints (published), so that a pair with more of them weighs "
        "more; or pairs",
        choices=("keypoints", "pairs"),
    )
    info_nce: float = setting(1.0, "weight of the matching loss, summed over both directions; 0 turns it off", low=0)
    hyperspherical: float = setting(
        1.0, "weight of the hyperspherical loss of the final features of both images; 0 turns it off", low=0
    )
    layer: float = setting(0.3, "weight of the hyperspherical loss after every decoder layer; 0 turns it off", low=0)
    layer_weighting: str = setting(
        "flat",
        "weights of the decoder layers in the layer loss: flat weighs all alike (published code), linear grows with "
        "depth (published text)",
        choices=("flat", "linear"),
    )
    unmatched: str = setting(
        "none",
        "what InfoNCE does with keypoints that have no partner: none leaves them out (published); dustbin adds a "
        "target of cosine -0.4 that they are to choose, and the others not",
        choices=("none", "dustbin"),
    )
    # Two plain keys rather than a list of name and weight: the weight is set, checked and searched as the others are.
    extra: str = setting("", "a loss term of your own, by the name it is registered under (docs/extend.md)")
    extra_weight: float = setting(1.0, "weight of the term that loss.extra names", low=0)


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """How similarities become an assignment, at evaluation and inference."""

    sinkhorn_iterations: int = setting(
        27, "Sinkhorn iterations over the similarities; 0 uses them as they are", low=0, high=1000, inference=True
    )
    epsilon: float = setting(
        0.035, "Sinkhorn regularization: similarities are divided by it; smaller is sharper", above=0, inference=True
    )
    assignment: str = setting(
        "argmax",
        "how the final assignment is read: argmax takes the best target of each keypoint, hungarian a one-to-one "
        "assignment",
        choices=("argmax", "hungarian"),
        inference=True,
    )
    unmatched: str = setting(
        OFF,
        "which keypoints get no partner: off matches all (published); f1 leaves out matches below the confidence of "
        "the highest F1 on val, precision=P those below the one that has precision P there, a number those below it",
        text=UNMATCHED,
        inference=True,
    )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The Adam optimizer and its learning-rate schedule."""

    lr: float = setting(5e-4, "Adam learning rate of the head", above=0, high=1.0)
    backbone_lr_scale: float = setting(
        0.03, "learning rate of the backbone as a multiple of the head's; 0 freezes the backbone", low=0
    )
    layer_decay: float = setting(
        1.0,
        "factor of the learning rate from each of the backbone's layers to the one before it, so that early layers "
        "change less; the deepest has the backbone's rate; 1 trains all alike (published)",
        above=0,
        high=1,
    )
    schedule: str = setting(
        "milestones",
        "course of the learning rate: milestones drops it after the epochs of optim.milestones (published), cosine "
        "lowers it at every step, along half a cosine, to 0 at the end of all epochs",
        choices=("milestones", "cosine"),
    )
    warmup_epochs: float = setting(
        0.0, "epochs, also parts of one, in which the learning rate rises from 0, linearly at every step", low=0
    )
    milestones: tuple[int, ...] = setting(
        (2, 5),
        "epochs after which the learning rate is multiplied by optim.gamma, increasing; [] keeps it constant",
        low=0,
    )
    gamma: float = setting(0.1, "factor of the learning rate at each milestone", above=0, high=1)
    weight_decay: float = setting(
        0.0, "decoupled weight decay (AdamW) per step, times the learning rate; 0 uses none", low=0
    )
    clip_norm: float = setting(0.0, "largest norm of the gradient, which is scaled down to it; 0 does not clip", low=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The length of a training, its seed, and how it computes."""

    epochs: int = setting(12, "epochs of a full training; each ends with validation and a checkpoint", low=1)
    steps_per_epoch: int = setting(2000, "optimizer steps per epoch", low=1)
    seed: int = setting(0, "random seed of the initial weights and of the training pairs", low=0, high=2**31 - 1)
    precision: str = setting(
        "auto",
        "number format of the forward pass: auto is bf16 on a GPU and fp32 on a CPU; tf32 is fp32 with products of 10 "
        "bits on a GPU",
        choices=("auto", "fp32", "tf32", "bf16"),
    )
    ema: float = setting(
        0.0,
        "decay per step of an exponential moving average of the weights, which is evaluated, and kept in best.pt, "
        "instead of them; takes their memory once more; 0 keeps none (published)",
        low=0,
        high=0.999999,
    )
    compile: bool = setting(
        False, "compile the training steps (docs/method.md): a slow first step, faster ones after it"
    )
    micro_batch: int = setting(
        0, "pairs a worker computes at once, to save memory; the result is the same; 0 computes all at once", low=0
    )
    gradient_compression: str = setting(
        "none",
        "number format in which several workers exchange gradients: none keeps theirs, bf16 halves what is sent",
        choices=("none", "bf16"),
    )
    loggers: tuple[str, ...] = setting(
        ("tensorboard",),
        "where metrics and pictures go besides metrics.jsonl: a list of tensorboard, csv, wandb, mlflow and names "
        "of your own (docs/extend.md); may change at --resume",
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration of one training, one branch per part."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def outliers_from(self) -> int | None:
        """Epochs after which training pairs lose keypoints or join two categories; None: never."""
        data, optim = self.data, self.optim
        if not (data.outliers or data.cross):
            return None
        if data.outliers_from >= 0:
            return data.outliers_from
        drops = optim.milestones if optim.schedule == "milestones" else ()
        return min(drops, default=self.train.epochs)


def _settings() -> dict[str, Setting]:
    found = {}
    for branch in dataclasses.fields(Config):
        branch_type = typing.get_type_hints(Config)[branch.name]
        hints = typing.get_type_hints(branch_type)
        for f in dataclasses.fields(branch_type):
            kind = hints[f.name]
            kind = tuple if typing.get_origin(kind) is tuple else kind
            key = f"{branch.name}.{f.name}"
            found[key] = Setting(key=key, type=kind, default=f.default, **f.metadata)
    return found


SETTINGS: Mapping[str, Setting] = types.MappingProxyType(_settings())
"""Every configuration key ("optim.lr") with its type, default, range and meaning."""


def find_setting(key: str, *, source: str) -> Setting:
    """The setting at `key`; raises UserError with the nearest key."""
    if key not in SETTINGS:
        branch = [k for k in SETTINGS if k.startswith(key.partition(".")[0] + ".")]
        raise UserError(f"{source}: no configuration key {key!r}; {nearest(key, branch or SETTINGS)}")
    return SETTINGS[key]


def with_overrides(config: Config, overrides: Mapping[str, Any], *, source: str) -> Config:
    """A new configuration with `overrides` ({"optim.lr": 1e-3}) applied and checked; `source` names them in errors."""
    branches: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        branch, _, name = key.partition(".")
        branches.setdefault(branch, {})[name] = find_setting(key, source=source).check(value, source=source)
    changed = dataclasses.replace(
        config, **{b: dataclasses.replace(getattr(config, b), **values) for b, values in branches.items()}
    )
    _check_together(changed, source=source)
    return changed


def _check_together(config: Config, *, source: str) -> None:
    d_model, heads = config.model.d_model, config.model.heads
    if d_model % heads:
        below = d_model // heads * heads
        raise UserError(
            f"{source}: model.d_model must be a multiple of model.heads, but got d_model={d_model}, heads={heads}; "
            f"nearest widths: {', '.join(str(w) for w in (below, below + heads) if w)}"
        )
    if config.loss.extra:
        LOSS_TERMS.get(config.loss.extra, source=f"{source}: loss.extra")
    extra = bool(config.loss.extra) and config.loss.extra_weight
    if not any((config.loss.info_nce, config.loss.hyperspherical, config.loss.layer, extra)):
        raise UserError(f"{source}: loss.info_nce, loss.hyperspherical and loss.layer are all 0: nothing to train on")
    if list(config.optim.milestones) != sorted(set(config.optim.milestones)):
        raise UserError(f"{source}: optim.milestones must increase, but got {list(config.optim.milestones)}")
    _check_outliers(config, source=source)
    if config.optim.warmup_epochs >= config.train.epochs:
        raise UserError(
            f"{source}: optim.warmup_epochs must be below train.epochs = {config.train.epochs}, but got "
            f"{config.optim.warmup_epochs:g}"
        )


def _check_outliers(config: Config, *, source: str) -> None:
    begin, epochs = config.outliers_from, config.train.epochs
    if begin is not None and begin >= epochs:
        raise UserError(
            f"{source}: data.outliers and data.cross would begin after all {epochs} epochs; set data.outliers_from, "
            "or an earlier first of optim.milestones"
        )
    if config.loss.unmatched != "none" and config.loss.matching != "infonce":
        raise UserError(
            f'{source}: loss.unmatched = "{config.loss.unmatched}" goes with loss.matching = "infonce", but it is '
            f'"{config.loss.matching}"'
        )
    if config.data.cross and config.loss.unmatched == "none":
        raise UserError(
            f'{source}: data.cross needs loss.unmatched = "dustbin": without it, pairs where nothing matches teach '
            "no keypoint to stay without a partner"
        )


def comparable(config: Config) -> Config:
    """The configuration with fields reset that change time, memory or what is logged, but not the result."""
    train = dataclasses.replace(config.train, micro_batch=0, compile=False, loggers=TrainConfig().loggers)
    return dataclasses.replace(config, train=train, data=dataclasses.replace(config.data, pad_keypoints=0))


def flatten(nested: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}; dotted keys pass through."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        items = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
        for k, v in items.items():
            find_setting(k, source=source)
            flat[k] = v
    return flat


def from_dict(nested: Mapping[str, Any], *, source: str) -> Config:
    """A configuration from nested or dotted keys; what is absent keeps its published default."""
    return with_overrides(Config(), flatten(nested, source=source), source=source)


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Nested plain values, ready for JSON."""
    nested = dataclasses.asdict(config)
    return {b: {k: list(v) if isinstance(v, tuple) else v for k, v in branch.items()} for b, branch in nested.items()}


def to_flat(config: Config) -> dict[str, Any]:
    """Dotted keys and plain values."""
    return {f"{b}.{k}": v for b, branch in to_dict(config).items() for k, v in branch.items()}


def load_config(path: Path) -> Config:
    """The configuration in a JSON file that `save_config` (or a search's best.json) wrote."""
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable JSON configuration ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a configuration is a JSON object, but got {type(content).__name__}")
    return from_dict(content, source=str(path))

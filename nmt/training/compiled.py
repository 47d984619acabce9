"""Compiled parts of a training step: the blocks of the backbone, the head, and the loss (`train.compile`).

A part compiles when it first meets a shape. So the batches of a training all have one shape, and only its steps are
compiled. Evaluation has batches of many sizes, and takes a tenth of the time; a trained matcher then has the same
accuracy in the training and wherever else it is evaluated.

Blocks of equal structure share one compiled form, which gets their weights as inputs: SwinV2-B has 24 blocks and 6
forms. `dynamic=False`: a batch of another size, the last part of a step say, is compiled for itself. Letters as in
nmt/batch.py; K branches of a block.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn

from nmt.config import DataConfig
from nmt.data.store.objects import StoreInfo
from nmt.errors import UserError, one_line
from nmt.losses import StepLoss
from nmt.model.drop_path import DropPath
from nmt.model.matcher import Matcher

BACKEND = "inductor"
"""compiler of torch: C++ on a CPU, Triton on a GPU"""

_FORMS = 64
"""most compiled forms of a part; shapes beyond them are computed without compiling"""


def static_shapes(config: DataConfig, info: StoreInfo) -> DataConfig:
    """Return the configuration with `pad_keypoints` set, by which all batches have one shape; padding has no effect."""
    width = config.pad_keypoints or info.most_keypoints + 1
    return dataclasses.replace(config, pad_keypoints=width)


class CompiledStep:
    """Compiled parts of a training step.

    Args:
        matcher: the matcher that trains; outside `computing` it is as it was.
        loss: the loss of a batch.
    """

    def __init__(self, matcher: Matcher, loss: StepLoss) -> None:
        # Each of these has a cache of its own: trials that follow each other in a process do not fill one up.
        compiled: Any = functools.partial(
            torch.compile, backend=BACKEND, dynamic=False, isolate_recompiles=True, recompile_limit=_FORMS
        )
        self.loss: StepLoss = compiled(loss)
        self._forwards: dict[nn.Module, Callable[..., Any]] = {matcher.head: compiled(matcher.head.forward)}
        if matcher.backbone is not None:
            run = compiled(_run)
            for block in blocks(matcher.backbone.net):
                paths = _drop_paths(block)
                num = sum(path.branches for path in paths)
                self._forwards[block] = functools.partial(_run_block, run, block, paths, num)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Compute the compiled parts in place of the matcher's own inside this context, backward included.

        Raises:
            UserError: this machine or these parts cannot be compiled.
        """
        for module, forward in self._forwards.items():
            module.forward = forward
        try:
            yield
        except torch._dynamo.exc.TorchDynamoException as error:
            raise UserError(
                f"train.compile: torch.compile failed ({one_line(error)}); it needs a C++ compiler (g++), on a GPU "
                "Triton too; or set train.compile=false"
            ) from error
        finally:
            for module in self._forwards:
                del module.forward


def blocks(net: nn.Module) -> list[nn.Module]:
    """List the modules that a net repeats: items of its containers that have submodules, but hold no such item.

    Left out are blocks whose branches have several rates, or share a DropPath with another block.
    """
    kinds = (nn.Sequential, nn.ModuleList)
    containers = [module for module in net.modules() if isinstance(module, kinds)]
    inside = dict.fromkeys(item for container in containers for item in container)
    items = [item for item in inside if [*item.children()] and not isinstance(item, kinds)]
    innermost = [item for item in items if not any(inner in items for inner in item.modules() if inner is not item)]
    uses = Counter(path for item in innermost for path in _drop_paths(item))

    def drops_by_itself(block: nn.Module) -> bool:
        paths = _drop_paths(block)
        return len({path.rate for path in paths}) <= 1 and all(uses[path] == 1 for path in paths)

    return [item for item in innermost if drops_by_itself(item)]


def _drop_paths(block: nn.Module) -> tuple[DropPath, ...]:
    return tuple(module for module in block.modules() if isinstance(module, DropPath))


def _run_block(run: Any, block: nn.Module, paths: tuple[DropPath, ...], num: int, *inputs: Any, **named: Any) -> Any:
    """Compute a block with `num` branches by its compiled form `run`.

    The factors of the branches are drawn before. Their rate differs from block to block, so it must not be compiled in.
    """
    factors = paths[0].factors if paths else None
    drawn = [next(factors) for _ in range(num)] if factors is not None else []
    return run(block, paths, torch.stack(drawn) if drawn else None, *inputs, **named)


def _run(block: nn.Module, paths: tuple[DropPath, ...], factors_KB: Tensor | None, *inputs: Any, **named: Any) -> Any:
    """Compute a block; this is what compiles."""
    factors = None if factors_KB is None else iter(factors_KB.unbind())
    for path in paths:
        path.factors = factors
    out = type(block).forward(block, *inputs, **named)
    for path in paths:
        path.factors = None
    return out

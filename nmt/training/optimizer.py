"""The optimizer of a training, and its groups of parameters, each with a learning rate of its own."""

from __future__ import annotations

from typing import Any

import torch

from nmt.config import Config
from nmt.model.backbone import Backbone
from nmt.model.matcher import Matcher


def build_optimizer(matcher: Matcher, config: Config) -> torch.optim.Optimizer:
    """Make the optimizer; freezes the backbone where its rate is 0.

    The "scale" of a group of parameters is its learning rate as a multiple of the head's. The first group is the head.

    Raises:
        UserError: `optim.layer_decay` is set for a backbone that does not say which layers it has.
    """
    optim = config.optim
    groups: list[dict[str, Any]] = [{"params": list(matcher.head.parameters()), "scale": 1.0}]
    if matcher.backbone is not None:
        # Without gradients, a frozen backbone has no backward pass and keeps no activations.
        matcher.backbone.requires_grad_(optim.backbone_lr_scale > 0)
        if optim.backbone_lr_scale > 0:
            groups += _backbone_groups(matcher.backbone, config)
    # Without weight decay, as published, AdamW is Adam. Fused: one kernel for all parameters instead of many.
    return AdamW(groups, lr=optim.lr, weight_decay=optim.weight_decay, fused=True)


def _eager(method: Any) -> Any:
    """Return a method of torch's optimizers without its wrapper, which imports the compiler at its first call."""
    return getattr(method, "__wrapped__", method)


class AdamW(torch.optim.AdamW):
    """AdamW for eager steps: the same arithmetic and state.

    torch keeps the compiler out of its optimizers by wrappers that import it, `torch._dynamo`: 1.3 s of every process
    that trains, a third of its start. Nothing compiles this optimizer.
    """

    add_param_group = _eager(torch.optim.AdamW.add_param_group)
    zero_grad = _eager(torch.optim.AdamW.zero_grad)
    state_dict = _eager(torch.optim.AdamW.state_dict)
    load_state_dict = _eager(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(_eager(torch.optim.AdamW.step))


def _backbone_groups(backbone: Backbone, config: Config) -> list[dict[str, Any]]:
    """Make one group of the whole backbone, or one for each layer from the image on."""
    optim = config.optim
    if optim.layer_decay == 1:
        return [{"params": list(backbone.parameters()), "scale": optim.backbone_lr_scale}]
    from nmt.model.layers import layer_numbers  # loads timm, which takes seconds

    numbers = layer_numbers(backbone, name=config.model.backbone)
    deepest = max(numbers.values())
    layers: dict[int, list[torch.nn.Parameter]] = {number: [] for number in sorted(set(numbers.values()))}
    for name, parameter in backbone.net.named_parameters():
        layers[numbers[name]].append(parameter)
    return [
        {"params": parameters, "scale": optim.backbone_lr_scale * optim.layer_decay ** (deepest - number)}
        for number, parameters in layers.items()
    ]

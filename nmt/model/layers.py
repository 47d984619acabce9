"""The layers of a backbone, by which a layer-wise learning rate tells its parameters apart."""

from __future__ import annotations

import re
from typing import Any

from nmt.errors import UserError, one_line
from nmt.model.backbone import Backbone


def layer_numbers(backbone: Backbone, *, name: str) -> dict[str, int]:
    """Number the layers of a backbone's net as timm groups them, for a learning rate that decays with the depth.

    Args:
        backbone: its net says by `group_matcher` how its parameters group, as every net of timm does.
        name: the backbone, as an error calls it.

    Returns:
        Name of each parameter of the net -> number of its layer, 0 = the one that reads the image.

    Raises:
        UserError: the net does not say it.
    """
    from timm.models import group_parameters

    net: Any = backbone.net
    if not hasattr(net, "group_matcher"):
        raise _unknown(name, "the net has no group_matcher")
    try:
        numbers = group_parameters(net, net.group_matcher(coarse=False), reverse=True)
    except (ValueError, TypeError, AttributeError, re.error) as error:  # a net of the user's
        raise _unknown(name, one_line(error)) from error
    return {parameter: int(numbers[parameter]) for parameter, _ in net.named_parameters()}


def _unknown(name: str, reason: str) -> UserError:
    return UserError(f"model.backbone={name} does not say which layers it has ({reason}); set optim.layer_decay to 1")

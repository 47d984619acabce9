from __future__ import annotations

import torch
from torch import nn

from nmt.model.undrawn import Undrawn


def test_nothing_is_drawn_and_other_calls_are_made():
    before = torch.get_rng_state()
    with Undrawn():
        layer = nn.Linear(3, 4)
        values = torch.zeros(5)
        nn.init.normal_(values)
        nn.init.trunc_normal_(values)
        ones = nn.init.ones_(torch.empty(2)) + 1
    assert torch.equal(torch.get_rng_state(), before)
    assert values.tolist() == [0.0] * 5 and ones.tolist() == [2.0, 2.0]
    layer.load_state_dict({"weight": torch.ones(4, 3), "bias": torch.zeros(4)})
    assert layer(torch.ones(1, 3)).tolist() == [[3.0] * 4]

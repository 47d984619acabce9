from __future__ import annotations

import torch

from nmt import checkpoint
from nmt.inference.load import load_model


def test_a_model_is_loaded_with_its_weights_in_evaluation_mode(small_checkpoint):
    model, config, categories = load_model(small_checkpoint)
    assert not model.training and config.model.d_model == 24 and categories == []
    saved = checkpoint.load(small_checkpoint)["model"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())

from __future__ import annotations

import pytest
import torch

from nmt import checkpoint
from nmt.errors import UserError
from nmt.inference.load import find_checkpoint, load_model


def test_a_file_is_itself_and_a_training_its_best_weights(small_checkpoint, tmp_path):
    assert find_checkpoint(str(small_checkpoint)) == small_checkpoint
    assert find_checkpoint(small_checkpoint.parent) == small_checkpoint
    assert find_checkpoint(tmp_path / "absent.pt") == tmp_path / "absent.pt"
    with pytest.raises(UserError, match="no best.pt in this folder"):
        find_checkpoint(tmp_path)


def test_a_model_is_loaded_with_its_weights_in_evaluation_mode(small_checkpoint):
    model, config, categories = load_model(small_checkpoint)
    assert not model.training and config.model.d_model == 24 and categories == []
    saved = checkpoint.load(small_checkpoint)["model"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())

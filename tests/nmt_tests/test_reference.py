import json

import numpy as np
import pytest
import torch

from nmt import reference
from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.model.matcher import Head


@pytest.fixture
def fixture(shared_data):
    return shared_data.parent / "fixtures" / "reference_small.npz"


def test_every_stage_of_the_published_implementation_agrees(fixture, capsys):
    assert reference.main(["check", str(fixture)]) == 0
    stages = json.loads(capsys.readouterr().out)
    assert set(stages) >= {
        "node_features", "edges", "spline_out", "similarity", "source_out", "target_out",
        "info_nce", "total_loss", "grad_norm", "after_step", "sinkhorn",
    }  # fmt: skip
    assert max(stages.values()) < 1e-4


def test_a_wrong_number_fails_the_check(fixture, tmp_path, capsys):
    arrays = dict(np.load(fixture))
    arrays["similarity"] = arrays["similarity"] + 1e-3
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert reference.main(["check", str(tmp_path / "wrong.npz")]) == 1
    assert json.loads(capsys.readouterr().out)["similarity"] > 2e-5


def test_missing_or_foreign_file_is_one_line(tmp_path, capsys):
    (tmp_path / "notes.npz").write_text("not an archive")
    for name in ("absent.npz", "notes.npz"):
        assert reference.main(["check", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1


def test_head_survives_the_published_names():
    head, other = (
        Head(ModelConfig(d_model=24, heads=3, decoder_layers=2), channels=12, global_channels=5) for _ in "ab"
    )
    published = reference.head_to_published(head)
    assert published["psi.convs.0.weight"].shape == (25, 12, 24)
    assert published["n_gpt_decoder_2.layers.1.alpha_M.s"].shape == (1, 24)
    reference.head_from_published({f"module.{k}": v for k, v in published.items()}, other, source="test")
    for name, value in head.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_published_head_of_another_width_names_the_weight_and_both_shapes():
    wide, narrow = (
        Head(ModelConfig(d_model=d, heads=3, decoder_layers=1), channels=12, global_channels=5) for d in (24, 12)
    )
    with pytest.raises(UserError, match=r"has shape .*24.*needs .*12"):
        reference.head_from_published(reference.head_to_published(wide), narrow, source="params.pt")
    with pytest.raises(UserError, match="no weight"):
        reference.head_from_published({}, narrow, source="params.pt")

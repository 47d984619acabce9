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


def test_a_layer_loss_of_weight_0_is_compared_with_0(fixture, tmp_path):
    arrays = dict(np.load(fixture))
    spec = json.loads(str(arrays["config"])) | {"layer_loss": 0.0}
    arrays |= {"config": np.array(json.dumps(spec)), "total_loss": arrays["main_loss"]}
    without = tmp_path / "without.npz"
    np.savez(without, **(arrays | {"layer_loss": np.zeros_like(arrays["layer_loss"])}))
    stages = reference.check(without)
    # The fixture's gradients are those of the weighted sum, so they differ, and with them the step.
    assert reference.passes({k: v for k, v in stages.items() if k not in ("grad_norm", "after_step")})
    assert stages["layer_loss"] == 0
    np.savez(without, **arrays)
    assert not reference.passes({"layer_loss": reference.check(without)["layer_loss"]})


@pytest.mark.parametrize("weight", ["info_nce", "hyperspherical"])
def test_a_main_term_of_weight_0_counts_as_0(fixture, weight):
    arrays = reference._Fixture(fixture)
    other = {name: arrays.tensor("main_loss") for name in ("info_nce", "hyperspherical") if name != weight}
    assert reference._main_loss_difference(other, arrays) == 0
    assert reference._main_loss_difference({}, arrays) == pytest.approx(float(arrays["main_loss"]))


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


def test_exported_head_has_every_name_and_shape_of_the_published_one(fixture):
    arrays = np.load(fixture)
    spec = json.loads(str(arrays["config"]))
    model = ModelConfig(d_model=spec["d_model"], heads=spec["heads"], decoder_layers=spec["decoder_layers"])
    head = Head(model, channels=2 * spec["channels"], global_channels=spec["channels"])
    published = {k: tuple(v.shape) for k, v in reference.head_to_published(head).items()}
    expected = {k.removeprefix("param/"): arrays[k].shape for k in arrays.files if k.startswith("param/")}
    assert published == expected
    rotary = reference.head_to_published(head)["n_gpt_decoder.precompute_freqs.inv_freq"]
    assert torch.allclose(rotary, torch.from_numpy(arrays["param/n_gpt_decoder.precompute_freqs.inv_freq"]))


@pytest.mark.slow
def test_a_published_checkpoint_comes_in_and_goes_out_unchanged(tmp_path):
    from nmt.config import Config, with_overrides
    from nmt.inference.load import load_model
    from nmt.model.build import build_matcher
    from nmt.model.weights import published_swinv2

    small = {"model.d_model": 24, "model.heads": 3, "model.decoder_layers": 1, "model.weights": "random"}
    matcher = build_matcher(with_overrides(Config(), small, source="test").model, image_size=384, features=None)
    backbone = {"swin." + k: v for k, v in published_swinv2(matcher.backbone.net).items()}
    published = {"module." + k: v for k, v in (reference.head_to_published(matcher.head) | backbone).items()}
    torch.save(published, tmp_path / "params.pt")
    assert reference.main(["import", str(tmp_path / "params.pt"), str(tmp_path / "ours.pt")]) == 0
    _, config, _ = load_model(tmp_path / "ours.pt")
    assert (config.model.d_model, config.model.heads, config.model.decoder_layers) == (24, 3, 1)
    assert reference.main(["export", str(tmp_path / "ours.pt"), str(tmp_path / "again.pt")]) == 0
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert {"module." + k for k in again} == set(published)
    for name, value in again.items():
        assert torch.equal(value, published["module." + name]), name

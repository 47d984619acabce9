import copy
import pickle

import pytest
import torch

from nmt.model.decoder import Decoder, unit
from nmt.model.packed import _packed


def test_decoder_tokens_stay_on_the_sphere():
    decoder = Decoder(24, 3, 2, 6)
    mask = torch.ones(2, 5, dtype=torch.bool)
    for tokens in decoder(torch.randn(2, 5, 24), torch.randn(2, 5, 24), mask, mask):
        assert torch.allclose(tokens.norm(dim=-1), torch.ones(2, 5), atol=1e-5)


def test_constraints_hold_after_a_step_that_breaks_them():
    decoder = Decoder(24, 3, 1, 6)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    decoder.enforce_constraints()
    layer = decoder.layers[0]
    assert (layer.alpha_mlp.s >= 0).all()
    assert torch.allclose(layer.mlp.up.weight.norm(dim=1), torch.ones(96), atol=1e-5)  # (96, 24): along the width 24
    assert torch.allclose(layer.mlp.down.weight.norm(dim=0), torch.ones(96), atol=1e-5)
    assert torch.allclose(layer.self_attention.query.weight.norm(dim=0), torch.ones(24), atol=1e-5)


def test_unit_of_zero_is_zero():
    assert unit(torch.zeros(3)).tolist() == [0, 0, 0]


def test_vanilla_decoder_has_the_parameters_of_the_normalized_one_and_tells_short_tokens_apart():
    """Tokens arrive with length 0.5; where updates of length sqrt(D) drown them, all cosines go to 1."""
    torch.manual_seed(0)
    plain, normalized = (Decoder(96, 4, 3, 4.0, normalized=kind) for kind in (False, True))
    counts = [sum(p.numel() for p in decoder.parameters()) for decoder in (plain, normalized)]
    assert counts[0] == pytest.approx(counts[1], rel=0.02)
    tokens = unit(torch.randn(1, 10, 96) + torch.randn(1, 1, 96)) / 2
    mask = torch.ones(1, 10, dtype=torch.bool)

    def mean_cosine(h):
        return ((unit(h) @ unit(h).mT).sum() - 10) / 90

    for decoder in (plain, normalized):
        for output in decoder(tokens, tokens.flip(1), mask, mask):
            assert output.norm(dim=-1).sub(1).abs().max() < 1e-5
            assert mean_cosine(output) < mean_cosine(tokens) + 0.05


@torch.no_grad()
def constrained_plainly(decoder: Decoder) -> dict[str, torch.Tensor]:
    """The weights after the constraints, one at a time and without any list."""
    found = {name: value.clone() for name, value in decoder.state_dict().items()}
    for name, module in decoder.named_modules():
        if isinstance(module, torch.nn.Linear):
            weight = found[f"{name}.weight"]
            dim = -2 if weight.shape[-2] == decoder.d_model else -1
            weight /= torch.linalg.vector_norm(weight, dim=dim, keepdim=True).clamp(min=1e-12)
    return {name: value.abs() if ".alpha_" in name else value for name, value in found.items()}


def packed(decoder: Decoder) -> Decoder:
    return _packed([decoder, copy.deepcopy(decoder)])


def assigned(decoder: Decoder) -> Decoder:
    decoder.load_state_dict({name: value.clone() for name, value in decoder.state_dict().items()}, assign=True)
    return decoder


@pytest.mark.parametrize(
    "changed",
    [
        copy.deepcopy, packed, assigned, lambda d: d.to(torch.float64), lambda d: copy.deepcopy(packed(d)),
        lambda d: pickle.loads(pickle.dumps(d)),
    ],
    ids=["copied", "packed", "loaded", "moved", "pack copied", "pickled"],
)  # fmt: skip
def test_constraints_act_on_the_weights_that_a_decoder_has_now(changed):
    first = Decoder(24, 3, 2, 6)
    first.enforce_constraints()  # its lists are made
    decoder = changed(first)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    expected, others = constrained_plainly(decoder), {} if decoder is first else copy.deepcopy(first.state_dict())
    decoder.enforce_constraints()
    assert all(torch.equal(value, expected[name]) for name, value in decoder.state_dict().items())
    if decoder.layers[0].mlp.up.weight.dim() == 2:  # a pack's weights are its first member's too
        assert all(torch.equal(value, first.state_dict()[name]) for name, value in others.items())

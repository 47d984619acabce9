import pytest
import torch

from nmt.model.decoder import Decoder, unit


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

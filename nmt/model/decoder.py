"""Normalized decoder: transformer layers whose tokens and weights lie on the unit sphere (nGPT, arXiv 2410.01131).

Every update moves a token along the sphere: h <- norm(h + alpha * (norm(update) - h)), nGPT's equations 10 and 11.
Letters as in nmt/batch.py; T tokens of this image, S tokens of the other image (the memory), H heads, d = D / H, F
hidden width of the MLP.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Constrained = tuple[dict[int, list[nn.Linear]], list[Any]]
"""dimension of the norm -> linear maps of unit norm; and the learned scales, or packed ones, that are kept positive"""


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """Scale `x` to length 1 along `dim`; a zero vector stays zero."""
    return F.normalize(x, dim=dim)


class LearnedScale(nn.Module):
    """Learned factor with the effective value s * init / scale, where s starts at `scale` (nGPT, section 2.5).

    Adam moves s by about the learning rate per step, whatever its size. A small `scale` thus gives the factor a large
    effective learning rate.

    Args:
        shape: shape of the factor.
        init: its effective value at the start.
        scale: value of s at the start.
    """

    def __init__(self, *shape: int, init: float, scale: float) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.full(shape, scale))
        self.ratio = init / scale

    def forward(self) -> Tensor:
        """Return the effective value."""
        return self.s * self.ratio


class Attention(nn.Module):
    """Multi-head attention with unit-norm queries and keys (nGPT, section 2.3), and no biases.

    The memory is the sequence itself (self-attention) or that of the other image (cross-attention).
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.scale_qk = LearnedScale(heads, d_model // heads, init=1.0, scale=d_model**-0.5)

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_B11S: Tensor) -> Tensor:
        """Attend from tokens (B, T, D) to the memory (B, S, D), where `mask_B11S` is True: (B, T, D)."""
        scale_H1d = self.scale_qk()[..., None, :]
        query_BHTd = unit(self._split(self.query(h_BTD))) * scale_H1d
        key_BHSd = unit(self._split(self.key(memory_BSD))) * scale_H1d
        value_BHSd = self._split(self.value(memory_BSD))
        mixed_BHTd = F.scaled_dot_product_attention(
            query_BHTd.to(value_BHSd.dtype),
            key_BHSd.to(value_BHSd.dtype),
            value_BHSd,
            attn_mask=mask_B11S,
            # sqrt(d) instead of the usual 1 / sqrt(d): the product of two unit vectors has variance 1 / d.
            scale=query_BHTd.shape[-1] ** 0.5,
        )
        return self.out(mixed_BHTd.transpose(1, 2).flatten(2))

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class GatedMLP(nn.Module):
    """Gated MLP: down(u * SiLU(v)), with u and v times learned scales, and v also times sqrt(D) (nGPT, section 2.4).

    The factor sqrt(D) takes v, the product of unit vectors, to the range in which SiLU is not linear.
    """

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, hidden, bias=False)
        self.gate = nn.Linear(d_model, hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)
        self.scale_up = LearnedScale(hidden, init=1.0, scale=1.0)
        self.scale_gate = LearnedScale(hidden, init=1.0, scale=1.0)
        self.sqrt_width = d_model**0.5

    def forward(self, h_BTD: Tensor) -> Tensor:
        """Map tokens (B, T, D) to their update (B, T, D)."""
        up_BTF = self.up(h_BTD) * self.scale_up()
        gate_BTF = self.gate(h_BTD) * (self.scale_gate() * self.sqrt_width)
        return self.down(up_BTF * F.silu(gate_BTF))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, global gate and gated MLP, each a step on the sphere (arXiv 2503.17715).

    Args:
        d_model: D, width of the tokens.
        heads: attention heads.
        hidden: F, hidden width of the MLP.
    """

    def __init__(self, d_model: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attention = Attention(d_model, heads)
        self.cross_attention = Attention(d_model, heads)
        self.mlp = GatedMLP(d_model, hidden)
        self.alpha_self, self.alpha_cross, self.alpha_gate, self.alpha_mlp = (
            LearnedScale(d_model, init=0.05, scale=d_model**-0.5) for _ in range(4)
        )

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_B11T: Tensor, mask_B11S: Tensor) -> Tensor:
        """Update unit-length tokens (B, T, D), which remain unit length; masks are True where a token is real."""
        h_BTD = _step(h_BTD, self.self_attention(h_BTD, h_BTD, mask_B11T), self.alpha_self)
        h_BTD = _step(h_BTD, self.cross_attention(h_BTD, memory_BSD, mask_B11S), self.alpha_cross)
        h_BTD = _step(h_BTD, h_BTD * h_BTD[:, :1], self.alpha_gate)  # token 0 is the global one
        return _step(h_BTD, self.mlp(h_BTD), self.alpha_mlp)


def _step(h_BTD: Tensor, update_BTD: Tensor, alpha: LearnedScale) -> Tensor:
    """Move tokens towards an update: norm(h + alpha * (norm(update) - h)), in float32."""
    return unit(torch.lerp(h_BTD, unit(update_BTD.float()), alpha()))


class PlainLayer(nn.Module):
    """Pre-norm transformer layer with a SwiGLU MLP, for the ablation: as many weights, no unit norms, no gate."""

    def __init__(self, d_model: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(d_model, heads, bias=False, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(d_model, heads, bias=False, batch_first=True)
        self.up = nn.Linear(d_model, hidden, bias=False)
        self.gate = nn.Linear(d_model, hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)
        self.norm_self, self.norm_cross, self.norm_memory, self.norm_mlp = (nn.LayerNorm(d_model) for _ in range(4))

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_B11T: Tensor, mask_B11S: Tensor) -> Tensor:
        """Update tokens (B, T, D); arguments as for `DecoderLayer`."""
        own_BTD, memory_BSD = self.norm_self(h_BTD), self.norm_memory(memory_BSD)
        # nn.MultiheadAttention marks the padding, not what is real.
        own_padding, other_padding = ~mask_B11T[:, 0, 0], ~mask_B11S[:, 0, 0]
        attend = {"need_weights": False}
        h_BTD = h_BTD + self.self_attention(own_BTD, own_BTD, own_BTD, key_padding_mask=own_padding, **attend)[0]
        query_BTD = self.norm_cross(h_BTD)
        update = self.cross_attention(query_BTD, memory_BSD, memory_BSD, key_padding_mask=other_padding, **attend)[0]
        h_BTD = h_BTD + update
        x_BTD = self.norm_mlp(h_BTD)
        return h_BTD + self.down(self.up(x_BTD) * F.silu(self.gate(x_BTD)))

    def start_small(self, std: float) -> None:
        """Initialise the last map of each branch with a small `std`: the stack starts near the identity (GPT-2)."""
        for last in (self.self_attention.out_proj, self.cross_attention.out_proj, self.down):
            nn.init.normal_(last.weight, std=std)


class Decoder(nn.Module):
    """Stack of layers over the tokens of one image, which attends to the input tokens of the other image.

    Args:
        d_model: D, width of the tokens.
        heads: attention heads.
        layers: number of layers.
        mlp_multiplier: hidden width of the MLP is int(D * this * 2/3).
        normalized: True: layers on the unit sphere (the method). False: a plain pre-norm transformer (the ablation),
            of which only the outputs are made unit length, as the cosine of the similarity requires.
    """

    def __init__(
        self, d_model: int, heads: int, layers: int, mlp_multiplier: float, *, normalized: bool = True
    ) -> None:
        super().__init__()
        self.d_model, self.normalized = d_model, normalized
        hidden = int(d_model * mlp_multiplier * 2 / 3)
        layer = DecoderLayer if normalized else PlainLayer
        self.layers = nn.ModuleList(layer(d_model, heads, hidden) for _ in range(layers))
        # The plain transformer needs norm_in. Its tokens have a length of about 0.5, and its updates, sqrt(D), are much
        # the same for all tokens of an image. The cosines then go to 1, and nothing is learned. Steps on the sphere
        # are short, so the normalized decoder needs no such norm.
        self.norm_in, self.norm_out = (nn.Identity() if normalized else nn.LayerNorm(d_model) for _ in range(2))
        for module in self.modules():
            if isinstance(module, PlainLayer):
                module.start_small(0.02 / (3 * layers) ** 0.5)
            elif normalized and isinstance(module, nn.Linear):
                nn.init.normal_(module.weight)  # as published; the next line sets the lengths
        # Modules, not parameters, are listed: moving or loading may put other parameters into them.
        self._constrained: _Constrained | None = None
        """what `enforce_constraints` acts on, found once: to walk all modules is a fifth of its work"""
        self.enforce_constraints()

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_BT: Tensor, mask_BS: Tensor) -> list[Tensor]:
        """Compute the tokens after every layer.

        Args:
            h_BTD: tokens of this image, global token first.
            memory_BSD: input tokens of the other image.
            mask_BT, mask_BS: True where a token is real.

        Returns:
            One (B, T, D) per layer, unit length; the last is the output. The layer loss reads them all.
        """
        outputs = []
        h_BTD, memory_BSD = self.norm_in(h_BTD), self.norm_in(memory_BSD)
        for layer in self.layers:
            h_BTD = layer(h_BTD, memory_BSD, mask_BT[:, None, None], mask_BS[:, None, None])
            outputs.append(h_BTD if self.normalized else unit(self.norm_out(h_BTD)))
        return outputs

    @torch.no_grad()
    def enforce_constraints(self) -> None:
        """Return the weights to the sphere after an optimizer step: alpha <- |alpha|, every Linear at unit norm.

        The norm is taken along the weight's first dimension of size d_model (square weights: dimension 0), as in the
        published code. That code first does it after the first step; here the initial weights are normalised too.
        """
        if not self.normalized:
            return
        if self._constrained is None:
            self._constrained = self._find_constrained()
        linear, alphas = self._constrained
        for dim, modules in linear.items():
            weights = [module.weight for module in modules]
            norms = [torch.linalg.vector_norm(weight, dim=dim, keepdim=True) for weight in weights]
            torch._foreach_clamp_min_(norms, 1e-12)
            torch._foreach_div_(weights, norms)
        torch._foreach_abs_([alpha.s for alpha in alphas])

    def _find_constrained(self) -> _Constrained:
        """List the modules whose weights lie on the sphere, and those whose scales are positive."""
        linear: dict[int, list[nn.Linear]] = {}
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # From the end: the weights of a pack have one dimension more.
                linear.setdefault(-2 if module.weight.shape[-2] == self.d_model else -1, []).append(module)
        alphas = [module for name, module in self.named_modules() if name.rpartition(".")[2].startswith("alpha_")]
        return linear, alphas

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lists of modules: a copy has modules of its own."""
        return {**super().__getstate__(), "_constrained": None}

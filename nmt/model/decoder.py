"""The normalized decoder: transformer layers whose tokens and weights live on the unit sphere (nGPT, arXiv 2410.01131).

Letters as in nmt/batch.py; T tokens of this image, S tokens of the other image (the memory), H heads, d = D / H, F
hidden width of the MLP. Every update moves a token along the sphere: h <- norm(h + alpha * (norm(update) - h)).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """`x` at length 1 along `dim`; a zero vector stays zero."""
    return F.normalize(x, dim=dim)


class LearnedScale(nn.Module):
    """A learned factor whose effective value is s * init / scale, with s starting at `scale`.

    The optimizer moves s, so `scale` sets the effective learning rate of the factor.
    """

    def __init__(self, *shape: int, init: float, scale: float) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.full(shape, scale))
        self.ratio = init / scale

    def forward(self) -> Tensor:
        return self.s * self.ratio


class Attention(nn.Module):
    """Multi-head attention with unit-norm queries and keys; the memory is the sequence itself or the other image's."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.scale_qk = LearnedScale(heads, d_model // heads, init=1.0, scale=d_model**-0.5)

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_B11S: Tensor) -> Tensor:
        scale_H1d = self.scale_qk()[..., None, :]
        query_BHTd = unit(self._split(self.query(h_BTD))) * scale_H1d
        key_BHSd = unit(self._split(self.key(memory_BSD))) * scale_H1d
        value_BHSd = self._split(self.value(memory_BSD))
        mixed_BHTd = F.scaled_dot_product_attention(
            query_BHTd.to(value_BHSd.dtype),
            key_BHSd.to(value_BHSd.dtype),
            value_BHSd,
            attn_mask=mask_B11S,
            scale=query_BHTd.shape[-1] ** 0.5,
        )
        return self.out(mixed_BHTd.transpose(1, 2).flatten(2))

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class GatedMLP(nn.Module):
    """down(u * SiLU(v)), u and v times learned scales, v also times sqrt(D)."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, hidden, bias=False)
        self.gate = nn.Linear(d_model, hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)
        self.scale_up = LearnedScale(hidden, init=1.0, scale=1.0)
        self.scale_gate = LearnedScale(hidden, init=1.0, scale=1.0)
        self.sqrt_width = d_model**0.5

    def forward(self, h_BTD: Tensor) -> Tensor:
        up_BTF = self.up(h_BTD) * self.scale_up()
        gate_BTF = self.gate(h_BTD) * (self.scale_gate() * self.sqrt_width)
        return self.down(up_BTF * F.silu(gate_BTF))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, global gate and MLP, each a step on the sphere."""

    def __init__(self, d_model: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attention = Attention(d_model, heads)
        self.cross_attention = Attention(d_model, heads)
        self.mlp = GatedMLP(d_model, hidden)
        self.alpha_self, self.alpha_cross, self.alpha_gate, self.alpha_mlp = (
            LearnedScale(d_model, init=0.05, scale=d_model**-0.5) for _ in range(4)
        )

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_B11T: Tensor, mask_B11S: Tensor) -> Tensor:
        h_BTD = _step(h_BTD, self.self_attention(h_BTD, h_BTD, mask_B11T), self.alpha_self)
        h_BTD = _step(h_BTD, self.cross_attention(h_BTD, memory_BSD, mask_B11S), self.alpha_cross)
        h_BTD = _step(h_BTD, h_BTD * h_BTD[:, :1], self.alpha_gate)  # token 0 is the global one
        return _step(h_BTD, self.mlp(h_BTD), self.alpha_mlp)


def _step(h_BTD: Tensor, update_BTD: Tensor, alpha: LearnedScale) -> Tensor:
    return unit(torch.lerp(h_BTD, unit(update_BTD.float()), alpha()))


class PlainLayer(nn.Module):
    """The ablation: a pre-norm transformer layer (SwiGLU) of as many weights, without unit norms and global gate."""

    def __init__(self, d_model: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(d_model, heads, bias=False, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(d_model, heads, bias=False, batch_first=True)
        self.up = nn.Linear(d_model, hidden, bias=False)
        self.gate = nn.Linear(d_model, hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)
        self.norm_self, self.norm_cross, self.norm_memory, self.norm_mlp = (nn.LayerNorm(d_model) for _ in range(4))

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_B11T: Tensor, mask_B11S: Tensor) -> Tensor:
        own_BTD, memory_BSD = self.norm_self(h_BTD), self.norm_memory(memory_BSD)
        own_padding, other_padding = ~mask_B11T[:, 0, 0], ~mask_B11S[:, 0, 0]
        attend = {"need_weights": False}
        h_BTD = h_BTD + self.self_attention(own_BTD, own_BTD, own_BTD, key_padding_mask=own_padding, **attend)[0]
        query_BTD = self.norm_cross(h_BTD)
        update = self.cross_attention(query_BTD, memory_BSD, memory_BSD, key_padding_mask=other_padding, **attend)[0]
        h_BTD = h_BTD + update
        x_BTD = self.norm_mlp(h_BTD)
        return h_BTD + self.down(self.up(x_BTD) * F.silu(self.gate(x_BTD)))

    def start_small(self, std: float) -> None:
        """What is added to the tokens starts small, so that a deep stack begins near the identity (GPT-2)."""
        for last in (self.self_attention.out_proj, self.cross_attention.out_proj, self.down):
            nn.init.normal_(last.weight, std=std)


class Decoder(nn.Module):
    """A stack of layers over the tokens of one image, looking at the input tokens of the other.

    Args:
        normalized: layers on the unit sphere (the method), or a plain pre-norm transformer, of which the outputs alone
            are made unit length, as the cosine of the similarity asks.
    """

    def __init__(
        self, d_model: int, heads: int, layers: int, mlp_multiplier: float, *, normalized: bool = True
    ) -> None:
        super().__init__()
        self.d_model, self.normalized = d_model, normalized
        hidden = int(d_model * mlp_multiplier * 2 / 3)
        layer = DecoderLayer if normalized else PlainLayer
        self.layers = nn.ModuleList(layer(d_model, heads, hidden) for _ in range(layers))
        # Without the first norm the tokens, of length 0.5, drown in updates of length sqrt(D) that all tokens of an
        # image have in common: their cosines go to 1 and nothing is learned. A step on the sphere is short by itself.
        self.norm_in, self.norm_out = (nn.Identity() if normalized else nn.LayerNorm(d_model) for _ in range(2))
        for plain in self.layers:
            if isinstance(plain, PlainLayer):
                plain.start_small(0.02 / (3 * layers) ** 0.5)
        self.enforce_constraints()

    def forward(self, h_BTD: Tensor, memory_BSD: Tensor, mask_BT: Tensor, mask_BS: Tensor) -> list[Tensor]:
        """The tokens after every layer, each (B, T, D), unit length; the last is the output."""
        outputs = []
        h_BTD, memory_BSD = self.norm_in(h_BTD), self.norm_in(memory_BSD)
        for layer in self.layers:
            h_BTD = layer(h_BTD, memory_BSD, mask_BT[:, None, None], mask_BS[:, None, None])
            outputs.append(h_BTD if self.normalized else unit(self.norm_out(h_BTD)))
        return outputs

    @torch.no_grad()
    def enforce_constraints(self) -> None:
        """Back onto the sphere, after every optimizer step: alpha <- |alpha|, every Linear at unit norm.

        The norm runs along the weight's first dimension of size d_model (square weights: dimension 0), as published.
        The published code does so only after the first step; here the initial weights are normalised too.
        """
        if not self.normalized:
            return
        weights = [m.weight for m in self.modules() if isinstance(m, nn.Linear)]
        for dim in (-2, -1):  # from the end: the weights of a pack have one dimension more
            group = [w for w in weights if (-2 if w.shape[-2] == self.d_model else -1) == dim]
            norms = [torch.linalg.vector_norm(w, dim=dim, keepdim=True).clamp_min_(1e-12) for w in group]
            if group:
                torch._foreach_div_(group, norms)
        for name, parameter in self.named_parameters():
            if ".alpha_" in name:
                parameter.abs_()

"""Exchange with the published implementation: its parameter names, its checkpoints, and the parity check.

python -m nmt.reference check FIXTURE.npz             stage by stage against numbers of the published code
python -m nmt.reference import params.pt OUT.pt       published checkpoint -> ours
python -m nmt.reference export CHECKPOINT.pt OUT.pt   ours -> published names
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmt.batch import Side
from nmt.config import Config, with_overrides
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.errors import UserError, one_line
from nmt.io.files import atomic_write
from nmt.losses import info_nce, inverse_match, loss_terms, total_loss
from nmt.model.area import Area
from nmt.model.matcher import Head
from nmt.model.sampling import sample_features
from nmt.model.spline import KERNEL
from nmt.sinkhorn import sinkhorn

PUBLISHED_NAMES = {
    "spline.first.": "psi.convs.0.",
    "spline.second.": "psi.convs.1.",
    ".root.weight": ".lin.weight",
    "node_linear.": "vit_to_node_dim.",
    "global_linear.": "glob_to_node_dim.",
    "decoder0.": "n_gpt_decoder.",
    "decoder1.": "n_gpt_decoder_2.",
    ".self_attention.": ".attn.",
    ".cross_attention.": ".cross_attn.",
    ".query.": ".Wq.",
    ".key.": ".Wk.",
    ".value.": ".Wv.",
    ".out.": ".Wo.",
    ".scale_qk.": ".s_qk.",
    ".up.": ".Wup.",
    ".gate.": ".Wgate.",
    ".down.": ".Wdown.",
    ".scale_up.": ".s_u.",
    ".scale_gate.": ".s_v.",
    ".alpha_self.": ".alpha_A.",
    ".alpha_cross.": ".alpha_C.",
    ".alpha_gate.": ".alpha_G.",
    ".alpha_mlp.": ".alpha_M.",
}
"""parts of our head's parameter names -> the published ones, applied in this order"""

BACKBONE_PREFIX = "swin."
"""prefix of the SwinV2 weights in a published checkpoint"""

NOT_WEIGHTS = ("kernel_size", "is_open_spline", "precompute_freqs.inv_freq")
"""ends of the names of published buffers that are no weights; its rotary tables are built but never applied"""

LIMITS = {"after_step": 1e-4, "grad_norm": 1e-4}
"""largest difference allowed in a stage, 2e-5 in the others; that of grad_norm is relative"""


def published_name(name: str) -> str:
    """Translate a parameter name of our head to the published implementation's."""
    for ours, theirs in PUBLISHED_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def head_from_published(published: Mapping[str, Tensor], head: Head, *, source: str) -> None:
    """Load published head weights (names with or without a `module.` prefix) into `head`, in place.

    Raises UserError, which begins with `source`, when a weight is missing or has another shape.
    """
    published = {k.removeprefix("module."): v for k, v in published.items()}
    state = {}
    for name, ours in head.state_dict().items():
        theirs = published.get(published_name(name))
        if theirs is None:
            raise UserError(f"{source}: no weight {published_name(name)!r}, which a published NMT checkpoint has")
        expected = _to_published(name, ours)
        if theirs.shape != expected.shape:
            raise UserError(
                f"{source}: {published_name(name)} has shape {tuple(theirs.shape)}, but this configuration needs "
                f"{tuple(expected.shape)}"
            )
        state[name] = _from_published(name, theirs).to(ours.dtype)
    head.load_state_dict(state)


def _is_spline_weight(name: str) -> bool:
    return name in ("spline.first.weight", "spline.second.weight")


def _to_published(name: str, ours: Tensor) -> Tensor:
    """Convert a weight of ours to the published shape: spline kernels (25, C, D), scales with a leading 1."""
    if _is_spline_weight(name):
        return ours.unflatten(1, (KERNEL**2, -1)).transpose(0, 1).contiguous()
    return ours[None].clone() if name.endswith(".s") and ours.dim() == 1 else ours.clone()


def _from_published(name: str, theirs: Tensor) -> Tensor:
    """Convert a published weight to our shape; the inverse of `_to_published`."""
    if _is_spline_weight(name):
        return theirs.transpose(0, 1).flatten(1)
    return (
        theirs[0]
        if name.endswith(".s") and theirs.shape[0] == 1 and theirs.dim() == 2 and "scale_qk" not in name
        else theirs
    )


def head_to_published(head: Head) -> dict[str, Tensor]:
    """Return the head's weights under the published names and shapes, with the published constant buffers.

    Without the buffers, the published implementation's strict loading would refuse the weights.
    """
    published = {published_name(name): _to_published(name, value) for name, value in head.state_dict().items()}
    for conv in ("psi.convs.0.", "psi.convs.1."):
        published[conv + "kernel_size"] = torch.tensor([5, 5])
        published[conv + "is_open_spline"] = torch.ones(2, dtype=torch.uint8)
    head_dim = published["n_gpt_decoder.layers.0.attn.s_qk.s"].shape[1]
    rotary = 10_000 ** -(torch.arange(0, head_dim, 2) / head_dim)  # never applied, but expected
    for decoder in ("n_gpt_decoder.", "n_gpt_decoder_2."):
        published[decoder + "precompute_freqs.inv_freq"] = rotary.clone()
    return published


def config_of_published(published: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the configuration keys that follow from the shapes in a published checkpoint."""
    heads = published["n_gpt_decoder.layers.0.attn.s_qk.s"].shape[0]
    d_model = published["vit_to_node_dim.weight"].shape[0]
    hidden = published["n_gpt_decoder.layers.0.mlp.Wup.weight"].shape[0]
    layers = {name.split(".")[2] for name in published if name.startswith("n_gpt_decoder.layers.")}
    return {
        "model.d_model": d_model,
        "model.heads": heads,
        "model.decoder_layers": len(layers),
        "model.mlp_multiplier": hidden * 3 / (2 * d_model),
    }


class _Fixture:
    """A parity fixture: weights, inputs, and the outputs of every stage of the published code."""

    def __init__(self, path: Path) -> None:
        try:
            arrays = np.load(path, allow_pickle=False)
            self.arrays = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: not a readable parity fixture (.npz without pickles): {one_line(error)}"
            ) from error
        self.config: dict[str, Any] = json.loads(str(self["config"]))

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise UserError(f"the parity fixture has no array {name!r}")
        return self.arrays[name]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self[name])

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays under `prefix/` as tensors, without the constant buffers."""
        names = [n for n in self.arrays if n.startswith(prefix + "/") and not n.endswith(NOT_WEIGHTS)]
        return {n.removeprefix(prefix + "/"): self.tensor(n) for n in names}

    def view(self, side: int) -> Side:
        """Make one side (0 source, 1 target) of the fixture's pairs, with graphs built by our code."""
        points, size = self[f"points_{side}"], self.config["image_size"]
        index, attr = [], []
        for b, points_N2 in enumerate(points):
            edges_2E = delaunay_edges(points_N2).astype(np.int64)
            index.append(edges_2E + b * points.shape[1])
            attr.append(edge_attributes(points_N2, edges_2E, size))
        return Side(
            points_BN2=torch.from_numpy(points),
            num_B=torch.full((points.shape[0],), points.shape[1]),
            edge_index_2E=torch.from_numpy(np.concatenate(index, axis=1)),
            edge_attr_E2=torch.from_numpy(np.concatenate(attr)),
        )

    def edges(self, side: int) -> set[tuple[int, int, float, float]]:
        """Return the published graph as a set of (from, to, x, y): flat indices over the batch, and the attribute."""
        found = set()
        for b in range(self.config["batch"]):
            shift = b * self.config["points"]
            index_2E, attr_E2 = self[f"edge_index_{side}_{b}"] + shift, self[f"edge_attr_{side}_{b}"]
            found |= {(i, j, *map(float, a)) for (i, j), a in zip(index_2E.T.tolist(), attr_E2, strict=True)}
        return found


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.detach().reshape(theirs.shape) - theirs).abs().max())


def _edge_difference(view: Side, theirs: set[tuple[int, int, float, float]]) -> float:
    # Compared as sets: the order of edges has no meaning and differs.
    attr = {(i, j): (x, y) for i, j, x, y in theirs}
    index = [tuple(edge) for edge in view.edge_index_2E.T.tolist()]
    if set(index) != set(attr) or len(index) != len(attr):
        return float("inf")
    return max(
        abs(a - b)
        for e, ours in zip(index, view.edge_attr_E2.tolist(), strict=True)
        for a, b in zip(ours, attr[e], strict=True)
    )


def check(path: Path) -> dict[str, float]:
    """Run our modules with the weights and inputs of a fixture (.npz). Raises UserError when it is unusable.

    Returns:
        Stage -> largest absolute difference from the published code; for grad_norm, a relative one.
    """
    fixture = _Fixture(path)
    spec = fixture.config
    config = with_overrides(
        Config(),
        {
            "model.d_model": spec["d_model"],
            "model.heads": spec["heads"],
            "model.decoder_layers": spec["decoder_layers"],
            "model.mlp_multiplier": spec["mlp_hidden_mult"],
            "loss.temperature": spec["temperature"],
            "loss.layer": spec["layer_loss"],
        },
        source=str(path),
    )
    head = Head(config.model, channels=2 * spec["channels"], global_channels=spec["channels"])
    head_from_published(fixture.group("param"), head, source=str(path))
    views, whole = (fixture.view(0), fixture.view(1)), Area(0, spec["image_size"])
    nodes = [
        sample_features(fixture.tensor(f"nodes_{g}"), fixture.tensor(f"edges_{g}"), views[g].points_BN2, (whole, whole))
        for g in (0, 1)
    ]
    output = head(*views, *nodes, fixture.tensor("glob_0"), fixture.tensor("glob_1"))
    match_BN = fixture.tensor("perm").argmax(2)
    # Fixtures have no padding, so every pair has as many keypoints as the width.
    terms = loss_terms(output, match_BN, config.loss, mean_keypoints=match_BN.shape[1])
    loss = total_loss(terms, config.loss)
    stages = {
        "node_features": max(_difference(nodes[g].flatten(0, 1), fixture.tensor(f"node_features_{g}")) for g in (0, 1)),
        "edges": max(_edge_difference(views[g], fixture.edges(g)) for g in (0, 1)),
        "spline_out": max(
            _difference(out.flatten(0, 1), fixture.tensor(f"spline_out_{g}"))
            for g, out in enumerate(head.graph_features(*views, *nodes))
        ),
        "similarity": _difference(output.similarity_BNM, fixture.tensor("similarity")),
        "source_out": _difference(output.source_BND, fixture.tensor("source_out")),
        "target_out": _difference(output.target_BMD, fixture.tensor("target_out")),
        "info_nce": _info_nce_difference(output.similarity_BNM, match_BN, config.loss.temperature, fixture),
        "main_loss": _main_loss_difference(terms, fixture),
        "layer_loss": _difference(config.loss.layer * _mean(terms, "layer"), fixture.tensor("layer_loss").squeeze()),
        "total_loss": _difference(loss, fixture.tensor("total_loss").squeeze()),
    }
    loss.backward()
    stages["grad_norm"] = _gradient_difference(head, fixture)
    optimizer = torch.optim.Adam(head.parameters(), lr=spec["lr"])
    optimizer.step()
    head.enforce_constraints()
    state = head_to_published(head)
    stages["after_step"] = max(_difference(state[name], value) for name, value in fixture.group("after_step").items())
    stages["sinkhorn"] = _sinkhorn_difference(fixture, output.mask0_BN, output.mask1_BM)
    return stages


def _info_nce_difference(similarity_BNM: Tensor, match_BN: Tensor, temperature: float, fixture: _Fixture) -> float:
    # Fixtures have no padding, so every keypoint is real.
    everything = torch.ones(match_BN.shape, dtype=torch.bool)
    back_BM = inverse_match(match_BN, similarity_BNM.shape[2])
    forward = info_nce(similarity_BNM, match_BN, everything, temperature).mean()
    backward = info_nce(similarity_BNM.transpose(1, 2), back_BM, everything, temperature).mean()
    return max(
        _difference(forward, fixture.tensor("infonce_source")), _difference(backward, fixture.tensor("infonce_target"))
    )


def _main_loss_difference(terms: Mapping[str, Tensor], fixture: _Fixture) -> float:
    return _difference(_mean(terms, "info_nce") + _mean(terms, "hyperspherical"), fixture.tensor("main_loss"))


def _mean(terms: Mapping[str, Tensor], name: str) -> Tensor:
    """Return the mean of a loss term over pairs; 0 for a term of weight 0, which `loss_terms` leaves out."""
    return terms[name].mean() if name in terms else torch.zeros(())


def _gradient_difference(head: Head, fixture: _Fixture) -> float:
    """Return the largest relative difference of the gradients' L2 norms."""
    theirs = fixture.group("grad_norm")
    norms = {published_name(n): p.grad.norm() for n, p in head.named_parameters() if p.grad is not None}
    return max(float((norms[name] - norm).abs() / norm.clamp_min(1e-12)) for name, norm in theirs.items())


def _sinkhorn_difference(fixture: _Fixture, mask0_BN: Tensor, mask1_BM: Tensor) -> float:
    similarity, worst = fixture.tensor("similarity"), 0.0
    for name in (n for n in fixture.arrays if n.startswith("sinkhorn_eps")):
        epsilon, iterations = name.removeprefix("sinkhorn_eps").split("_it")
        plan = sinkhorn(similarity, mask0_BN, mask1_BM, epsilon=float(epsilon), iterations=int(iterations)).exp()
        worst = max(worst, _difference(plan, fixture.tensor(name)))
    return worst


def passes(stages: Mapping[str, float]) -> bool:
    """Return True when every stage is below its limit."""
    return all(value < LIMITS.get(stage, 2e-5) for stage, value in stages.items())


def import_published(path: Path, out: Path) -> dict[str, Any]:
    """Convert a published `params.pt` (head and SwinV2 backbone) to a checkpoint for --evaluate and --match.

    Returns:
        Configuration keys that follow from its shapes.
    """
    from nmt import checkpoint
    from nmt.config import to_dict
    from nmt.model.build import build_matcher

    published = _load_published(path)
    keys = config_of_published(published)
    config = with_overrides(Config(), keys | {"model.weights": str(path)}, source=str(path))
    matcher = build_matcher(config.model, image_size=config.data.image_size, features=None)
    head_from_published(published, matcher.head, source=str(path))
    checkpoint.save(
        out, {"model": matcher.state_dict(), "config": to_dict(config), "categories": [], "epoch": 0, "metrics": {}}
    )
    return keys


def export_published(path: Path, out: Path) -> None:
    """Convert a checkpoint of ours to a published `params.pt`, with a SwinV2 backbone under Microsoft's names."""
    from nmt.inference.load import load_model
    from nmt.model.weights import published_swinv2

    matcher, config, _ = load_model(path)
    published = head_to_published(matcher.head)
    if matcher.backbone is not None and config.model.backbone.startswith("swinv2"):
        state = published_swinv2(matcher.backbone.get_submodule("net"))
        published |= {BACKBONE_PREFIX + name: value for name, value in state.items()}
    with atomic_write(out) as file:
        torch.save(published, file)


def _load_published(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a readable params.pt of weights alone ({one_line(error)})") from error
    content = content.get("model", content) if isinstance(content, dict) else content
    published = {k.removeprefix("module."): v for k, v in content.items()} if isinstance(content, dict) else {}
    if "vit_to_node_dim.weight" not in published:
        raise UserError(f"{path}: not a published NMT checkpoint (no weight vit_to_node_dim.weight)")
    return published


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit status: 0 success, 1 the parity check failed, 2 a wrong request.
    """
    parser = argparse.ArgumentParser(prog="python -m nmt.reference", description=__doc__.splitlines()[0])
    jobs = parser.add_subparsers(dest="job", required=True)
    jobs.add_parser("check", help="run a parity fixture, stage by stage").add_argument("file", type=Path)
    for job, help_text in (("import", "published params.pt -> ours"), ("export", "ours -> published names")):
        sub = jobs.add_parser(job, help=help_text)
        sub.add_argument("file", type=Path)
        sub.add_argument("out", type=Path)
    args = parser.parse_args(arguments)
    try:
        if args.job == "check":
            stages = check(args.file)
            print(json.dumps(stages))
            return 0 if passes(stages) else 1
        if args.job == "import":
            print(f"{args.out}: {import_published(args.file, args.out)}")
        else:
            export_published(args.file, args.out)
            print(args.out)
        return 0
    except UserError as error:
        print(f"nmt.reference: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())

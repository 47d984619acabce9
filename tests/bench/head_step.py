"""Forward, backward and update of the paper-size head (d_model 648, 4 layers, 2048 features): the share of each part.

    python tests/bench/head_step.py [--pairs 8] [--points 10] [--steps 10] [--threads N] [--record]

The published code takes 53 s for this step on two CPU cores (24 s forward, 29 s backward, nearly all of it in the CPU
kernels of torch_spline_conv).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from record import record

from nmt.batch import Side
from nmt.config import LossConfig, ModelConfig
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.losses import loss_terms, total_loss
from nmt.model.matcher import Head


def random_view(rng: np.random.Generator, pairs: int, points: int, channels: int) -> Side:
    """A view of `pairs` images with `points` keypoints each, unit-norm features of paper size."""
    xy = rng.uniform(0, 384, (pairs, points, 2)).astype(np.float32)
    edges = [delaunay_edges(p).astype(np.int64) for p in xy]
    features = torch.from_numpy(rng.standard_normal((pairs, points, channels)).astype(np.float32))
    return Side(
        points_BN2=torch.from_numpy(xy),
        num_B=torch.full((pairs,), points),
        edge_index_2E=torch.from_numpy(np.concatenate([e + b * points for b, e in enumerate(edges)], 1)),
        edge_attr_E2=torch.from_numpy(
            np.concatenate([edge_attributes(p, e, 384) for p, e in zip(xy, edges, strict=True)])
        ),
        nodes_BNC=torch.nn.functional.normalize(features, dim=-1),
        global_BG=torch.from_numpy(rng.standard_normal((pairs, channels // 2)).astype(np.float32)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--record", action="store_true", help="write the figures to RESULTS.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    rng = np.random.default_rng(0)
    view0, view1 = (random_view(rng, args.pairs, args.points, 2048).to(device) for _ in range(2))
    match_BN = torch.arange(args.points, device=device).expand(args.pairs, -1)
    head = Head(ModelConfig(), channels=2048, global_channels=1024).to(device)
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-4, fused=True)
    loss_config = LossConfig()
    parts: dict[str, list[float]] = {}

    def timed(name, function):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        result = function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        parts.setdefault(name, []).append(time.perf_counter() - start)
        return result

    def forward() -> torch.Tensor:
        output = head(view0, view1, view0.nodes_BNC, view1.nodes_BNC, view0.global_BG, view1.global_BG)
        terms = loss_terms(output, match_BN, loss_config, mean_keypoints=args.points)
        return total_loss(terms, loss_config)

    def splines() -> torch.Tensor:
        return torch.stack(
            [x.square().mean() for x in head.graph_features(view0, view1, view0.nodes_BNC, view1.nodes_BNC)]
        ).sum()

    for _ in range(args.steps + 1):  # the first is the warm-up, dropped below
        start = time.perf_counter()
        loss = timed("forward", forward)
        timed("backward", loss.backward)
        timed("update", optimizer.step)
        timed("constraints", head.enforce_constraints)
        optimizer.zero_grad()
        parts.setdefault("step", []).append(time.perf_counter() - start)
        loss = timed("spline alone, forward", splines)
        timed("spline alone, backward", loss.backward)
        optimizer.zero_grad()
    medians = {name: statistics.median(seconds[1:]) for name, seconds in parts.items()}
    millions = sum(p.numel() for p in head.parameters()) / 1e6
    size = f"{args.pairs} pairs x {args.points} keypoints, {millions:.1f} M parameters"
    print(f"{size}, {device.type}, {args.threads} threads")
    for name, seconds in medians.items():
        print(f"{name:24} {seconds * 1e3:8.1f} ms  {seconds / medians['step']:6.1%} of the step")
    if args.record:
        shown = {name: f"{medians[name] * 1e3:.1f} ms" for name in ("step", "forward", "backward", "update")}
        record({f"{size}, {device.type}, {args.threads} threads": "medians of the clock"} | shown)


if __name__ == "__main__":
    main()

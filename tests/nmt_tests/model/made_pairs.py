"""Pairs of random keypoints and features for tests of the model."""

from __future__ import annotations

import numpy as np
import torch

from nmt.batch import PairBatch, Side
from nmt.config import ModelConfig
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.model.matcher import Head, Matcher

SMALL = ModelConfig(d_model=24, heads=3, decoder_layers=2, feature_projection=8)


def made_view(counts, width, seed, channels=12):
    """Pairs of `counts` keypoints padded to `width`; the content depends on pair and seed alone."""
    points, nodes, edges, attrs = np.zeros((len(counts), width, 2), np.float32), [], [], []
    for b, num in enumerate(counts):
        rng = np.random.default_rng([seed, b, num])
        points[b, :num] = rng.uniform(0, 64, (num, 2))
        row = np.zeros((width, channels), np.float32)
        row[:num] = rng.standard_normal((num, channels))
        nodes.append(row)
        edge = delaunay_edges(points[b, :num]).astype(np.int64)
        edges.append(edge + b * width)
        attrs.append(edge_attributes(points[b, :num], edge, 64))
    return Side(
        torch.from_numpy(points),
        torch.tensor(counts),
        torch.from_numpy(np.concatenate(edges, 1)),
        torch.from_numpy(np.concatenate(attrs)),
        nodes_BNC=torch.from_numpy(np.stack(nodes)),
        global_BG=torch.stack([torch.full((5,), 0.1 * num) for num in counts]),
    )


def made_batch(counts, width, seed=0):
    match = torch.full((len(counts), width), -1)
    for b, num in enumerate(counts):
        match[b, :num] = torch.arange(num).flip(0)
    return PairBatch(
        made_view(counts, width, seed),
        made_view(counts, width, seed + 1),
        match,
        torch.zeros(len(counts), dtype=torch.int64),
    )


def made_matcher(model=SMALL):
    torch.manual_seed(0)
    return Matcher(Head(model, channels=12, global_channels=5), None)

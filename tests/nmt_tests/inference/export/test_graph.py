"""The traced functions equal the matcher, pair by pair, on any batch."""

from __future__ import annotations

import numpy as np
import torch

from nmt.batch import PairBatch, Side
from nmt.config import Config, with_overrides
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.decoding import predict
from nmt.inference.export.graph import PairHead, PairMatcher
from nmt.model.build import build_matcher
from tests.small_model import SMALL


def test_one_pair_without_padding_equals_the_matcher() -> None:
    config = with_overrides(Config(), SMALL, source="test")
    matcher = build_matcher(config.model, image_size=64, features=None).eval()
    assert matcher.backbone is not None
    decode = config.decode
    head = PairHead(
        matcher.head, image_size=64, epsilon=decode.epsilon, iterations=decode.sinkhorn_iterations, calibration=None
    )
    generator = np.random.default_rng(1)
    images, points, sides = [], [], []
    for num in (5, 8):
        image = torch.from_numpy(generator.integers(0, 256, (64, 64, 3), np.uint8))
        points_N2 = generator.uniform(0, 64, (num, 2)).astype(np.float32)
        edges_2E = delaunay_edges(points_N2).astype(np.int64)
        attr_E2 = torch.from_numpy(edge_attributes(points_N2, edges_2E, 64))
        images.append(image)
        points.append((torch.from_numpy(points_N2), torch.from_numpy(edges_2E)))
        sides.append(
            Side(
                torch.from_numpy(points_N2)[None], torch.tensor([num]), torch.from_numpy(edges_2E), attr_E2,
                image_B3HW=image.permute(2, 0, 1)[None],
            )
        )  # fmt: skip
    batch = PairBatch(sides[0], sides[1], torch.full((1, 5), -1), torch.zeros(1, dtype=torch.int64))
    with torch.no_grad():
        match, confidence, similarity = PairMatcher(matcher.backbone, head)(
            images[0], *points[0], images[1], *points[1]
        )
        output = matcher(batch)
    torch.testing.assert_close(similarity, output.similarity_BNM[0], atol=1e-5, rtol=0)
    assert match.tolist() == predict(output, decode)[0].tolist() and match.shape == confidence.shape == (5,)
    assert confidence.min() > 0 and confidence.max() <= 1 + 1e-5

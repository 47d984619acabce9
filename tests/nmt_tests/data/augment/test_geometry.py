import dataclasses

import numpy as np
import torch
from hypothesis import given, settings, strategies

from nmt.config import DataConfig
from nmt.data.augment.geometry import inside, similarity
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.data.store.writer import RawObject
from nmt.data.stream.pairs import PairStream

PLAIN = DataConfig(name="toy", mode="images", image_size=64, erasing=0.0, cutmix=0.0, mixup=0.0)
MOVED = dataclasses.replace(PLAIN, rotation=180.0, mirror=0.5, scale=0.5)


def dot(x: int, y: int) -> np.ndarray:
    """A black image with a white spot of three by three pixels."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return image


def test_a_quarter_turn_takes_right_to_below():
    turned = similarity(64, angle=np.pi / 2, scale=1, mirrored=False)
    np.testing.assert_allclose(turned.points(np.array([[64.0, 32.0]])), [[32, 64]], atol=1e-5)


def test_mirroring_takes_left_to_right_and_keeps_the_height():
    mirrored = similarity(64, angle=0, scale=1, mirrored=True)
    np.testing.assert_allclose(mirrored.points(np.array([[10.0, 20.0]])), [[54, 20]])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(mirrored.image(image), image[:, ::-1])


@settings(deadline=None, max_examples=60)
@given(
    angle=strategies.floats(-np.pi, np.pi),
    scale=strategies.floats(0.7, 1.3),
    mirrored=strategies.booleans(),
    x=strategies.integers(1, 62),
    y=strategies.integers(1, 62),
)
def test_a_keypoint_stays_on_what_it_marks(angle, scale, mirrored, x, y):
    move = similarity(64, angle=angle, scale=scale, mirrored=mirrored)
    point = move.points(np.array([[x + 0.5, y + 0.5]]))[0]
    if (np.abs(point - 32) > 28).any():
        return
    moved = np.maximum(move.image(dot(x, y)).astype(float).sum(2) - 30, 0)  # what lies beyond has the mean colour
    weight = moved / moved.sum()
    centre = [(weight.sum(axis) * (np.arange(64) + 0.5)).sum() for axis in (0, 1)]
    np.testing.assert_allclose(centre, point, atol=0.5)


def test_points_on_the_edge_are_inside():
    points = np.array([[0, 0], [64, 64], [64.01, 3], [3, -0.01]])
    assert inside(points, 64).tolist() == [True, True, False, False]


def test_without_moves_the_stream_is_what_it_was(toy_store):
    still = dataclasses.replace(PLAIN, rotation=0.0, mirror=0.0, scale=0.0)
    batch = PairStream(toy_store, still, split="train", seed=0).batch(0, range(4))
    assert all((batch.source.image_B3HW[b].permute(1, 2, 0).numpy() == 0).mean() < 0.1 for b in range(4))


def test_moved_pairs_keep_their_matches_and_their_points_in_the_image(toy_store):
    moved = PairStream(toy_store, MOVED, split="train", seed=0)
    plain = PairStream(toy_store, PLAIN, split="train", seed=0)
    fewer = 0
    for first in range(0, 60, 6):
        batch, whole = moved.batch(0, range(first, first + 6)), plain.batch(0, range(first, first + 6))
        assert torch.equal(batch.category_B, whole.category_B)
        assert (batch.source.num_B >= MIN_KEYPOINTS).all() and torch.equal(batch.source.num_B, batch.target.num_B)
        for view in (batch.source, batch.target):
            assert (view.points_BN2 >= 0).all() and (view.points_BN2 <= 64).all()
            assert (view.edge_attr_E2 >= 0).all() and (view.edge_attr_E2 <= 1).all()
        for b, num in enumerate(batch.source.num_B.tolist()):
            assert sorted(batch.match_BN[b, :num].tolist()) == list(range(num))
        fewer += int((batch.source.num_B < whole.source.num_B).sum())
    assert fewer > 0


def test_matches_survive_a_move(make_store):
    def star(name: str, offset: float) -> RawObject:
        points = {f"c{k}": (12.0 + 4 * k + offset, 20.0 + 3 * (k % 5)) for k in range(10)}
        return RawObject(name, "chair", "train", name, dot(3, 3), points)

    store = make_store([star("a", 0.0), star("b", 1.0)])
    config = dataclasses.replace(MOVED, scale=0.0)
    batch = PairStream(store, config, split="train", seed=0).batch(0, range(10))
    for b, num in enumerate(batch.source.num_B.tolist()):
        source, target = batch.source.points_BN2[b, :num], batch.target.points_BN2[b, batch.match_BN[b, :num]]
        # Both are the same figure: distances between its points are kept, whatever the move.
        torch.testing.assert_close(torch.cdist(source, source), torch.cdist(target, target), atol=1e-3, rtol=1e-3)

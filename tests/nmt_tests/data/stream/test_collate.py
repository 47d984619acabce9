import numpy as np
import torch

from nmt.config import DataConfig
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.data.stream.collate import graph
from nmt.data.stream.pairs import PairStream, eval_pairs, plain_batch


def test_stored_graph_relabelled_equals_the_graph_computed_anew(toy_store):
    rng = np.random.default_rng(0)
    for row in range(20):
        points = toy_store.points(row)
        order = rng.permutation(len(points))
        relabelled = set(map(tuple, graph(toy_store, row, order, points).T.tolist()))
        assert relabelled == set(map(tuple, delaunay_edges(points[order]).T.tolist()))


def test_graph_of_a_subset_is_its_own_triangulation(toy_store):
    rng = np.random.default_rng(0)
    for row in range(20):
        points = toy_store.points(row)
        order = rng.permutation(len(points))[:5]
        relabelled = set(map(tuple, graph(toy_store, row, order, points).T.tolist()))
        assert relabelled == set(map(tuple, delaunay_edges(points[order]).T.tolist()))


def test_a_pair_has_the_same_edges_and_attributes_alone_and_in_a_batch(stream):
    batch, alone = stream.batch(0, [5, 6, 7]), stream.batch(0, [6])
    width = batch.source.points_BN2.shape[1]
    inside = (batch.source.edge_index_2E[0] // width) == 1
    assert torch.equal(batch.source.edge_index_2E[:, inside] - width, alone.source.edge_index_2E)
    assert torch.equal(batch.source.edge_attr_E2[inside], alone.source.edge_attr_E2)
    points = alone.source.points_BN2[0].numpy()
    expected = edge_attributes(points, alone.source.edge_index_2E.numpy(), 64)
    np.testing.assert_array_equal(alone.source.edge_attr_E2.numpy(), expected)
    assert alone.source.edge_attr_E2.min() >= 0 and alone.source.edge_attr_E2.max() <= 1


def test_padded_batches_have_one_shape(toy_store, toy_features):
    config = DataConfig(name="toy", mode="features", image_size=64, pad_keypoints=12)
    stream = PairStream(toy_store, config, split="train", seed=0, features=toy_features)
    shapes = {
        tuple(t.shape)
        for first in range(0, 80, 8)
        for t in (lambda v: (v.points_BN2, v.edge_index_2E, v.nodes_BNC))(
            stream.batch(0, range(first, first + 8)).source
        )
    }
    assert shapes == {(8, 12, 2), (2, 8 * 60), (8, 12, 10)}


def test_padding_does_not_change_what_the_model_says(toy_store, toy_features):
    from nmt.config import ModelConfig
    from nmt.model.build import build_matcher

    model = ModelConfig(d_model=24, heads=2, decoder_layers=2)
    matcher = build_matcher(model, image_size=64, features=toy_features).eval()
    scores = []
    for pad in (0, 17):
        config = DataConfig(name="toy", mode="features", image_size=64, pad_keypoints=pad)
        batch = PairStream(toy_store, config, split="train", seed=0, features=toy_features).batch(0, range(8))
        with torch.inference_mode():
            scores.append((batch.source.num_B, matcher(batch).similarity_BNM))
    (num_B, alone), (_, padded) = scores
    for b, num in enumerate(num_B.tolist()):
        torch.testing.assert_close(alone[b, :num, :num], padded[b, :num, :num], atol=2e-6, rtol=0)


def test_sides_of_different_size_are_padded_each_by_itself(toy_store, toy_features):
    pairs = eval_pairs(toy_store, DataConfig(name="toy", image_size=64, eval_pairs=3), split="val")
    few = [pair.keep_sides(np.arange(len(pair.keypoints0)) < 3, np.arange(len(pair.keypoints1)) > 0) for pair in pairs]
    batch = plain_batch(toy_store, few, features=toy_features)
    assert batch.source.num_B.tolist() == [3] * len(few) and batch.match_BN.shape == (len(few), 3)
    assert batch.target.num_B.tolist() == [len(pair.keypoints1) for pair in few]
    for b, pair in enumerate(few):
        ids = batch.target.nodes_BNC[b, : len(pair.keypoints1), 0]  # channel 0 holds the id
        assert ids.tolist() == pair.keypoints1.tolist() and (batch.target.points_BN2[b, len(ids) :] == 0).all()
        assert batch.match_BN[b].tolist() == pair.match_N.tolist()

import numpy as np
import pytest
from hypothesis import given, strategies

from nmt.data.graph import delaunay_edges, edge_attributes, remembered_edges
from tests.paths import SHARED

FIXTURE = SHARED / "fixtures" / "reference_small.npz"


def as_set(edges_2E: np.ndarray) -> set[tuple[int, int]]:
    return set(map(tuple, edges_2E.T.tolist()))


def complete(num: int) -> set[tuple[int, int]]:
    return {(i, j) for i in range(num) for j in range(num) if i != j}


def test_square_with_centre_links_centre_and_sides_but_no_diagonal():
    points = np.array([(0, 0), (4, 0), (4, 4), (0, 4), (2, 2)], np.float32)
    one_way = {(0, 1), (1, 2), (2, 3), (0, 3), (0, 4), (1, 4), (2, 4), (3, 4)}
    assert as_set(delaunay_edges(points)) == one_way | {(j, i) for i, j in one_way}


@pytest.mark.parametrize("num", [0, 1, 2, 3])
def test_up_to_three_points_are_fully_connected(num):
    points = np.array([(0, 0), (1, 0), (0, 1)], np.float32)[:num]
    assert as_set(delaunay_edges(points)) == complete(num)


def test_points_on_a_line_get_a_graph_that_links_neighbours():
    edges = as_set(delaunay_edges(np.array([(k, 2 * k) for k in range(5)], np.float32)))
    assert {(k, k + 1) for k in range(4)} <= edges


def test_identical_points_are_fully_connected_or_isolated_but_never_an_error():
    edges = delaunay_edges(np.ones((4, 2), np.float32))
    assert edges.shape[0] == 2 and edges.shape[1] <= 12


@given(strategies.lists(strategies.tuples(*[strategies.integers(0, 64)] * 2), max_size=12))
def test_edges_go_both_ways_without_loops_or_repeats(points):
    edges = delaunay_edges(np.array(points, np.float32).reshape(-1, 2))
    pairs = as_set(edges)
    assert len(pairs) == edges.shape[1]
    assert all((j, i) in pairs and i != j for i, j in pairs)
    assert edges.dtype == np.int16 and (edges.size == 0 or edges.max() < len(points))


def test_a_remembered_graph_is_the_graph_and_cannot_be_changed():
    points = np.random.default_rng(0).random((9, 2), np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(remembered_edges(points.tobytes()), delaunay_edges(points))
    assert not remembered_edges(points.tobytes()).flags.writeable


def test_attribute_is_half_plus_half_the_offset_from_target_to_source():
    points = np.array([(0, 0), (10, 5)], np.float32)
    attributes = edge_attributes(points, np.array([[0, 1], [1, 0]]), 10)
    assert attributes.dtype == np.float32
    np.testing.assert_allclose(attributes, [(0.0, 0.25), (1.0, 0.75)])


def test_graphs_equal_those_of_the_published_code():
    if not FIXTURE.exists():
        pytest.skip("../shared/fixtures is absent")
    fixture = np.load(FIXTURE)
    for side in (0, 1):
        for b, points in enumerate(fixture[f"points_{side}"].astype(np.float32)):
            edges = delaunay_edges(points)
            expected = fixture[f"edge_index_{side}_{b}"]
            assert as_set(edges) == as_set(expected)
            attributes = dict(zip(map(tuple, edges.T.tolist()), edge_attributes(points, edges, 384), strict=True))
            for edge, attribute in zip(map(tuple, expected.T.tolist()), fixture[f"edge_attr_{side}_{b}"], strict=True):
                np.testing.assert_allclose(attributes[edge], attribute, atol=1e-6)

"""Objects that the backbone reads once: the features and similarities of reading both images of every pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.config import Config
from nmt.data.stream.outliers import protocol_pairs
from nmt.data.stream.pairs import eval_pairs, plain_batch
from nmt.decoding import Similarities, model_score, similarities
from nmt.device import autocast
from nmt.model.build import build_matcher
from nmt.model.matcher import Matcher
from nmt.seen_objects import SeenObjects, encoder, head_pairs
from tests.nmt_tests.toy_training import small

CPU = torch.device("cpu")
PLAIN = autocast("fp32", CPU)


@pytest.fixture(scope="module")
def config() -> Config:
    return small(data__mode="images", model__drop_path=0.5, data__eval_pairs=8)


@pytest.fixture(scope="module")
def matcher(config) -> Matcher:
    return build_matcher(config.model, image_size=64, features=None, seed=0).eval()


@contextmanager
def counted(matcher: Matcher) -> Iterator[Counter[bytes]]:
    """How often the backbone sees each image."""
    seen: Counter[bytes] = Counter()

    def count(backbone: object, given: tuple[torch.Tensor, ...], maps: object) -> None:
        seen.update(image.numpy().tobytes() for image in given[0])

    handle = matcher.backbone.register_forward_hook(count)
    yield seen
    handle.remove()


def seen_objects(matcher, store, pairs, at_once, width=0) -> SeenObjects:
    encode = encoder(matcher, autocast=PLAIN)
    return SeenObjects(encode, store, pairs, pairs_at_once=at_once, device=CPU, width=width)


def directly(matcher, store, pairs) -> Similarities:
    batches = (plain_batch(store, pairs[k : k + 3], features=None) for k in range(0, len(pairs), 3))
    return similarities(model_score(matcher, autocast=PLAIN), batches, device=CPU)


@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_every_object_is_read_once_and_the_similarities_are_those_of_whole_pairs(matcher, config, toy_store, at_once):
    pairs = eval_pairs(toy_store, config.data, split="test")
    objects = seen_objects(matcher, toy_store, pairs, at_once)
    with counted(matcher) as seen:
        stored = similarities(model_score(matcher, autocast=PLAIN), objects.batches(pairs), device=CPU)
    rows = {row for pair in pairs for row in (pair.row0, pair.row1)}
    assert len(rows) < 2 * len(pairs)
    assert sorted(seen.values()) == [1] * len(rows)
    direct = directly(matcher, toy_store, pairs)
    torch.testing.assert_close(stored.similarity_PNM, direct.similarity_PNM, atol=1e-5, rtol=0)
    assert torch.equal(stored.match_PN, direct.match_PN) and torch.equal(stored.category_P, direct.category_P)


def test_keypoints_without_a_partner_and_padding_read_the_right_features(matcher, config, toy_store):
    pairs = [
        pair for several in protocol_pairs(toy_store, config.data, split="val", most=4).values() for pair in several
    ]
    batch = seen_objects(matcher, toy_store, pairs, 2, width=12).batch(pairs)
    both = plain_batch(toy_store, pairs, features=None, width=12)
    for side, plain in ((batch.source, both.source), (batch.target, both.target)):
        nodes_BNC, global_BG = matcher.features(plain)
        torch.testing.assert_close(side.nodes_BNC, nodes_BNC, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(side.global_BG, global_BG, atol=1e-5, rtol=1e-5)
        assert not side.nodes_BNC[~side.mask_BN].any() and side.image_B3HW is None
        assert torch.equal(side.edge_index_2E, plain.edge_index_2E)


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_an_object_is_held_from_its_first_pair_to_its_last(matcher, config, toy_store, random, at_once):
    pairs = eval_pairs(toy_store, config.data, split="val")
    random.shuffle(pairs)
    objects = seen_objects(matcher, toy_store, pairs, 1)
    with counted(matcher) as seen:
        for first in range(0, len(pairs), at_once):
            batch = objects.batch(pairs[first : first + at_once])
            later = {row for pair in pairs[first + at_once :] for row in (pair.row0, pair.row1)}
            assert set(objects.held) <= later and batch.source.nodes_BNC is not None
    assert set(seen.values()) == {1} and not objects.held
    assert len(objects.seconds) >= len(seen) / 2 and min(objects.seconds) > 0


def test_more_pairs_pass_the_head_than_the_backbone():
    assert head_pairs(8, CPU) == 32 and head_pairs(8, torch.device("cuda")) == 256

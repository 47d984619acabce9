"""A look at what a matcher gets wrong: its accuracies are those of the evaluation, its pairs the worst ones."""

from __future__ import annotations

import dataclasses

import pytest

from nmt.config import DecodeConfig
from nmt.errors import UserError
from nmt.inference.evaluate import MODEL, evaluate_checkpoint
from nmt.inference.hardest import MOST_OF_A_CATEGORY, look
from nmt.inference.load import load_model

GRID = [DecodeConfig(sinkhorn_iterations=k, epsilon=e, assignment="argmax") for k in (0, 10) for e in (0.05, 0.2)]


def test_every_decoding_has_the_accuracy_that_the_evaluation_finds(trained, toy_data):
    found = look(trained / "best.pt", data=toy_data, decode={}, grid=GRID, seconds=60)
    assert found.pairs == found.of and list(found.accuracy) == GRID
    for setting in GRID[1:3]:
        decode = {f"decode.{name}": value for name, value in dataclasses.asdict(setting).items()}
        expected = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="val", decode=decode)
        assert found.accuracy[setting] == pytest.approx(expected.mean[MODEL])


def test_the_hardest_pairs_come_first_and_from_several_categories(trained, toy_data):
    poor = {"decode.epsilon": 10.0, "decode.sinkhorn_iterations": 1}
    found = look(trained / "best.pt", data=toy_data, decode=poor, grid=GRID[:1], count=4)
    shares = [pair.right / pair.known for pair in found.hardest]
    assert shares == sorted(shares) and all(share < 1 for share in shares)
    names = [pair.category for pair in found.hardest]
    assert all(names.count(name) <= MOST_OF_A_CATEGORY for name in names)
    assert all(pair.picture_HW3.ndim == 3 and pair.picture_HW3.any() for pair in found.hardest)


def test_a_look_ends_with_its_time_and_has_begun_with_every_category(trained, toy_data):
    found = look(trained / "best.pt", data=toy_data, decode={}, grid=GRID[:1], seconds=0.0)
    assert 0 < found.pairs < found.of
    assert 0 < found.accuracy[GRID[0]] <= 1  # the mean over categories that were seen


def test_a_checkpoint_of_another_data_set_is_refused(trained, tmp_path):
    _, config, _ = load_model(trained / "best.pt")
    with pytest.raises(UserError, match=f"data/{config.data.name}|objects.arrow"):
        look(trained / "best.pt", data=tmp_path, decode={}, grid=GRID)

"""Counts of evaluation pairs: their sums, and the file that holds them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nmt.data.stream.pairs import eval_pairs
from nmt.errors import UserError
from nmt.pair_results import PairResults, load_pair_results
from tests.nmt_tests.toy_training import small


def made() -> PairResults:
    photographs = np.array([[7, 8], [8, 7], [8, 9], [3, 4]])
    correct = {"NMT": np.array([2.0, 3, 0, 1]), "chance": np.array([0.5, 0.5, 0.25, 1])}
    return PairResults(("cup", "none", "fish"), photographs, np.array([0, 0, 0, 2]), np.array([4.0, 4, 2, 1]), correct)


def test_sums_by_category_are_those_of_the_pairs() -> None:
    counts = made().counts("NMT")
    assert counts.accuracy_per_category(made().categories) == {"cup": 0.5, "fish": 1.0}
    assert counts.accuracy() == 0.75 and made().num_photographs == 5


def test_counts_return_from_their_file_as_they_were(tmp_path: Path) -> None:
    made().save(tmp_path / "pairs.npz")
    found = load_pair_results(tmp_path / "pairs.npz")
    assert found.same_pairs(made()) and found.categories == made().categories
    assert {name: values.tolist() for name, values in found.correct.items()} == {
        name: values.tolist() for name, values in made().correct.items()
    }


@pytest.mark.parametrize("field", ["photographs_P2", "category_P", "total_P", "categories"])
def test_other_pairs_are_told_apart(field: str) -> None:
    changed = getattr(made(), field)[::-1]
    assert not made().same_pairs(dataclasses.replace(made(), **{field: changed}))


def test_a_damaged_file_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "pairs.npz"
    made().save(path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no archive at all"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"pairs.npz: not the counts of evaluation pairs \("):
            load_pair_results(path)
    np.savez(path, names=np.array([{}], object))  # a pickle, which is never loaded
    with pytest.raises(UserError, match="not the counts"):
        load_pair_results(path)
    dataclasses.replace(made(), total_P=np.ones(4), category_P=np.zeros(3, int)).save(path)
    with pytest.raises(UserError, match="differ in length"):
        load_pair_results(path)


def test_photographs_and_categories_are_those_of_the_data_set(toy_store) -> None:
    pairs = eval_pairs(toy_store, small().data, split="test")
    found = PairResults.of(toy_store, pairs, np.ones(len(pairs)), {"NMT": np.zeros(len(pairs))})
    expected = [[toy_store.photo[pair.row0], toy_store.photo[pair.row1]] for pair in pairs]
    assert (
        found.photographs_P2.tolist() == expected and (found.photographs_P2[:, 0] != found.photographs_P2[:, 1]).all()
    )
    assert found.category_P.tolist() == [toy_store.category[pair.row1] for pair in pairs]
    assert PairResults.of(toy_store, [], np.zeros(0), {}).photographs_P2.shape == (0, 2)

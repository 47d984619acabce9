"""The file of given pairs: what is written comes back by row and name, and files of other objects are refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.data.store.given_pairs import (
    DIFFICULTIES,
    GIVEN_PAIRS,
    PAIRS_FILE,
    GivenPair,
    PairTable,
    open_pairs,
    write_pairs,
)
from nmt.data.store.objects import SPLITS, ObjectStore
from nmt.errors import UserError


def pair_of(store: ObjectStore, row0: int, row1: int, names: tuple[str, ...]) -> GivenPair:
    return GivenPair(SPLITS[store.split[row0]], store.id(row0), store.id(row1), names, (0, 1, 2, 0, 1))


@pytest.fixture
def store(make_store, toy_objects) -> ObjectStore:
    return make_store(toy_objects())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_pair_comes_back_with_its_rows_split_and_keypoints(store: ObjectStore, data: st.DataObject) -> None:
    expected = []
    for _ in range(data.draw(st.integers(1, 6))):
        row0 = data.draw(st.integers(0, len(store) - 1))
        row1 = data.draw(st.sampled_from(store.rows(SPLITS[store.split[row0]])[store.category[row0]].tolist()))
        known = store.info.keypoint_names[store.info.categories[store.category[row0]]]
        names = tuple(data.draw(st.permutations(known))[: data.draw(st.integers(2, len(known)))])
        expected.append((row0, row1, names, [known.index(name) for name in names]))
    rows = {store.id(row): row for row in range(len(store))}
    pairs = [pair_of(store, row0, row1, names) for row0, row1, names, _ in expected]
    write_pairs(store.directory / PAIRS_FILE, pairs, rows, store.info)
    table = PairTable(store)
    assert table.row0.tolist() == [e[0] for e in expected] and table.row1.tolist() == [e[1] for e in expected]
    for number, (*_, ids) in enumerate(expected):
        assert table.keypoints(number).tolist() == sorted(ids)
    numbers = [table.of(split).tolist() for split in SPLITS]
    assert sorted(number for of_split in numbers for number in of_split) == list(range(len(expected)))
    assert all(SPLITS[store.split[table.row0[n]]] == SPLITS[s] for s, split in enumerate(numbers) for n in split)


def test_the_gradings_are_columns_of_their_names(store: ObjectStore) -> None:
    import pyarrow as pa

    write_pairs(store.directory / PAIRS_FILE, [pair_of(store, 0, 1, ("c0", "c1"))], {store.id(0): 0, store.id(1): 1},
                store.info)  # fmt: skip
    content = pa.ipc.open_file((store.directory / PAIRS_FILE).read_bytes()).read_all().to_pylist()
    assert [content[0][name] for name in DIFFICULTIES] == [0, 1, 2, 0, 1]


def test_pairs_made_with_other_objects_are_refused(store: ObjectStore) -> None:
    other = dataclasses.replace(store.info, seed=7)
    write_pairs(store.directory / PAIRS_FILE, [], {}, other)
    with pytest.raises(UserError, match="another version of the objects beside it; make it anew with: .*--prepare toy"):
        PairTable(store)


def test_only_a_data_set_that_says_so_has_given_pairs(store: ObjectStore) -> None:
    assert open_pairs(store) is None
    store.info.options[GIVEN_PAIRS] = True
    with pytest.raises(UserError, match="pairs.arrow: not there; make it with: .*--prepare toy"):
        open_pairs(store)
    write_pairs(store.directory / PAIRS_FILE, [], {}, store.info)
    assert isinstance(open_pairs(store), PairTable)

"""The `[search]` and `[resources]` tables, and the workers of the command line."""

from __future__ import annotations

import pytest

from nmt.errors import UserError
from tune.spaces.settings import Resources, SearchSettings, check_table, table_settings, workers_for


def test_the_keys_of_a_table_are_its_fields_with_a_meaning():
    assert list(table_settings(Resources)) == ["cpus", "gpus", "workers", "packed"]
    trials = table_settings(SearchSettings)["trials"]
    assert (trials.key, trials.type, trials.low) == ("trials", int, 1)


def test_a_wrong_entry_is_named_with_what_is_right():
    with pytest.raises(UserError, match=r"x: unknown key 'cpu'; did you mean 'cpus'\?"):
        check_table(Resources, {"cpu": 1}, "x")
    with pytest.raises(UserError, match="x: cpus must be an integer at least 1, but got 0"):
        check_table(Resources, {"cpus": 0}, "x")


def test_every_worker_must_have_a_pair_of_the_step():
    assert workers_for("2:4", 4) == Resources(workers=4, fewest=2)
    with pytest.raises(UserError, match="--workers 5: more than data.pairs_per_step = 4, so that a worker would have"):
        workers_for("5", 4)

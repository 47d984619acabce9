"""How many workers and trials fit on a cluster."""

from __future__ import annotations

import pytest

from nmt.errors import UserError
from tune.driver.room import concurrency, room
from tune.spaces.settings import Resources


def test_concurrency_counts_whole_workers_on_each_node() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 4.0}]
    assert concurrency(Resources(cpus=2), nodes) == 5
    assert concurrency(Resources(cpus=2, gpus=1), nodes) == 3
    assert concurrency(Resources(cpus=1, gpus=0.5), nodes) == 7
    assert concurrency(Resources(cpus=2, gpus=1, workers=2), nodes) == 1
    with pytest.raises(UserError, match="4 workers of 2 CPUs and 1 GPUs"):
        concurrency(Resources(cpus=2, gpus=1, workers=4), nodes)


def test_one_trial_runs_where_only_its_fewest_workers_fit() -> None:
    elastic = Resources(cpus=2, workers=4, fewest=2)
    assert room(elastic, [{"CPU": 3.0}, {"CPU": 2.0}]) == 2
    assert concurrency(elastic, [{"CPU": 3.0}, {"CPU": 2.0}]) == 1
    with pytest.raises(UserError, match="it takes 2 workers of 2 CPUs"):
        concurrency(elastic, [{"CPU": 3.0}, {"CPU": 1.0}])

"""Which nodes an autoscaler may still start, as the cluster's own file or NMT_MAY_START says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from tune.cluster import growth
from tune.cluster.growth import may_start

SMALL, LARGE = {"CPU": 4}, {"CPU": 8, "GPU": 1}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("NMT_MAY_START", raising=False)
    monkeypatch.setattr(growth, "FILE", tmp_path / "ray_bootstrap_config.yaml")


def write(tmp_path: Path, *, small: int, large: int, most: int) -> None:
    types = {
        "head": {"resources": {"CPU": 64}, "max_workers": 5},
        "small": {"resources": SMALL, "max_workers": small},
        "large": {"resources": LARGE, "max_workers": large},
    }
    config = {"available_node_types": types, "head_node_type": "head", "max_workers": most}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(small=st.integers(0, 4), large=st.integers(0, 4), most=st.integers(0, 9), alive=st.integers(0, 9))
def test_the_largest_nodes_come_first_and_never_more_than_the_cluster_may_have(
    tmp_path: Path, small: int, large: int, most: int, alive: int
) -> None:
    write(tmp_path, small=small, large=large, most=most)
    assert may_start(alive) == ([LARGE] * large + [SMALL] * small)[: max(most - alive, 0)]


def test_the_variable_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, small=1, large=1, most=2)
    monkeypatch.setenv("NMT_MAY_START", json.dumps([SMALL | {"nodes": 2}, LARGE | {"nodes": 1}]))
    assert may_start(0) == [LARGE, SMALL, SMALL] and may_start(2) == [LARGE] and may_start(9) == []


def test_without_a_cluster_or_its_file_nothing_will_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert may_start(0) == []
    write(tmp_path, small=1, large=1, most=2)
    monkeypatch.delenv("RAY_ADDRESS")
    assert may_start(0) == []


@pytest.mark.parametrize("value", ["", "7", "{}", '[{"CPU": 7}]', '[{"CPU": 7, "nodes": "many"}]', "[1]", '["nodes"]'])
def test_a_variable_that_says_nothing_of_nodes_is_one_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_MAY_START", value)
    if value == "{}":  # no kinds of nodes at all
        assert may_start(0) == []
        return
    with pytest.raises(UserError, match=r"NMT_MAY_START: .* cannot be read; write it like \[.*nodes.*\]") as error:
        may_start(0)
    assert "\n" not in str(error.value)

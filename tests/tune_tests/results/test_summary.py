from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from nmt.config import load_config
from nmt.errors import UserError
from tests.tune_tests.results.summaries import record, summary
from tune.results.summary import load_summary


def test_best_is_the_highest_complete_trial_and_the_earliest_of_equals() -> None:
    found = summary(record(0, 0.5), record(1, 0.7), record(2, 0.7), record(3, 0.9, state="PRUNED"), record(4, None))
    assert found.best is not None and found.best.id == "001"
    assert found.gain_points == pytest.approx(20)


def test_of_configurations_trained_again_the_best_mean_wins_not_the_highest_value() -> None:
    lucky, steady = record(1, 0.90, lr=1e-2, state="PRUNED"), record(2, 0.86, lr=3e-3)
    again = [record(3, 0.70, lr=1e-2, seed=7), record(4, 0.88, lr=3e-3, seed=7), record(5, 0.80, lr=1e-3, seed=7)]
    found = summary(record(0, 0.82), lucky, steady, *again)
    assert [[t.id for t in several] for several in found.reselected] == [["002", "004"], ["000", "005"], ["003"]]
    assert found.best is again[1] and found.gain_points == pytest.approx(100 * (0.87 - 0.82))
    assert [t.id for t in found.rivals] == ["001", "004"]  # each configuration once
    once = summary(record(0, 0.82), lucky, steady)
    assert not once.reselected and once.best is steady


def test_summary_returns_from_its_file_as_it_was(tmp_path: Path) -> None:
    found = summary(record(0, 0.5), record(1, 0.7))
    found.save(tmp_path)
    assert load_summary(tmp_path) == found
    assert json.loads((tmp_path / "summary.json").read_text())["best"] == "001"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_text_of_the_file_is_that_of_plain_values(count: int) -> None:
    name = 'of "trials": [],\n  "trials": [],\n é'
    found = summary(*(record(number, 0.5 + number / 10, reason=name) for number in range(count)))
    found = dataclasses.replace(found, description=name)
    for _ in range(2):  # the second time from what is kept
        assert found.to_json() == json.dumps(found.to_dict(), indent=2)


def test_best_json_is_the_winner_with_its_best_decode_setting(tmp_path: Path) -> None:
    summary(record(0, 0.5), record(1, 0.7, lr=0.02)).save(tmp_path)
    config = load_config(tmp_path / "best.json")
    assert config.optim.lr == 0.02
    assert dataclasses.astuple(config.decode) == (10, 0.05, "argmax", "off")


def test_no_best_json_without_a_complete_trial(tmp_path: Path) -> None:
    summary(record(0, 0.5, state="PRUNED")).save(tmp_path)
    assert not (tmp_path / "best.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"trials": [{}], "best": null, "gain_points": null}'])
def test_damaged_summary_is_a_users_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match="not the summary of a search"):
        load_summary(tmp_path)


def test_missing_summary_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search has run there; run one with: python run.py --search"):
        load_summary(tmp_path)


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("search", {}, "without sampler, scheduler, seed"),
        ("space", [], "space is no table"),
        ("resources", None, "resources is no table"),
        ("trials", [None], "NoneType"),
        ("best", None, "best of trial 000 is no table"),
        ("id", "first", "invalid literal"),
    ],
)
def test_a_summary_whose_parts_are_of_another_kind_is_a_users_error(
    tmp_path: Path, part: str, value: object, reason: str
) -> None:
    found = summary(record(0, 0.5)).to_dict()
    (found["trials"][0] if part in ("best", "id") else found)[part] = value
    (tmp_path / "summary.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match=f"summary.json: not the summary of a search .*{reason}"):
        load_summary(tmp_path)


def test_of_two_objectives_that_are_maximised_the_pareto_set_has_the_highest() -> None:
    names = ["val/accuracy", "val/f1", "decoder_parameters"]
    values = [(0.5, 0.8, 10.0), (0.6, 0.7, 10.0), (0.6, 0.6, 10.0), (0.4, 0.4, 5.0)]
    trials = [record(n, v[0], objectives=dict(zip(names, v, strict=True))) for n, v in enumerate(values)]
    made = summary(*trials)
    made = dataclasses.replace(made, search=made.search | {"objectives": names})
    assert [t.id for t in made.pareto] == ["001", "000", "003"]

"""Trainings on train and val together at the end of a confirmation: what they conclude, and real small ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import run
from nmt import checkpoint
from nmt.config import Config, load_config
from nmt.data.store.ready import ReadyData
from nmt.errors import UserError
from nmt.training.history import METRIC, read_metrics
from tests.tune_tests.evidence.confirmations import repeated
from tune.evidence.confirm import run_confirm
from tune.evidence.confirmed import load_confirmed
from tune.evidence.final import Final, _on_both, check_final, final_from_dict, final_weights, render_final
from tune.evidence.repeated import Repeated, Variant


def final(winner: list[float] | None, default: list[float] | None) -> Final:
    return Final(winner=repeated("007", [0.0] * 3, winner), default=repeated("000", [0.0] * 3, default))


def test_the_difference_on_test_is_paired_by_seed() -> None:
    found = final([0.71, 0.72, 0.73], [0.60, 0.62, 0.61])
    assert found.difference is not None and found.difference.mean == pytest.approx(0.11)
    text = render_final(found)
    assert "007 72.0" in text and "default 61.0" in text and "above the default" in text
    assert "on train and val together, 3 seeds each" in text
    assert "no gain that is proven" in render_final(final([0.60, 0.62, 0.61], [0.61, 0.60, 0.62]))
    assert final_from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_test_split_stays_unread_while_trainings_are_left() -> None:
    found = final(None, None)
    (first, *others) = found.winner.runs
    again = replace(found.winner, runs=(replace(first, reason="the disk is full", again=True), *others))
    unfinished = replace(found, winner=again)
    assert unfinished.unfinished and unfinished.difference is None
    text = render_final(unfinished)
    assert "the test split was not read, for some are to be trained again" in text and "the disk is full" in text
    assert final_weights(unfinished, Path("c")) == Path("c/final/runs/007-s2/best.pt")


def test_each_seed_decodes_as_its_training_on_train_did_best() -> None:
    chosen: Repeated = repeated("007", [0.7, 0.7, None])
    chosen = replace(chosen, runs=(replace(chosen.runs[0], decode={"epsilon": 0.2}), *chosen.runs[1:]))
    variant = _on_both(Variant(name="007", slug="007", config=Config()), chosen)
    decodings = [variant.with_seed(seed).decode for seed in (1, 2, 3)]
    assert [d.epsilon for d in decodings] == [0.2, 0.035, 0.035] and decodings[0].sinkhorn_iterations == 27
    assert all(variant.with_seed(seed).data.train_split == "train+val" for seed in (1, 2, 3))
    assert [variant.with_seed(seed).train.seed for seed in (1, 2)] == [1, 2]


def test_a_data_set_without_a_test_split_is_refused(tmp_path: Path) -> None:
    ready = ReadyData("data/x", "/data/x", tmp_path, "0", has_test=False)
    check_final(ready, asked=False)
    with pytest.raises(UserError, match="^--final: data/x has no test split"):
        check_final(ready, asked=True)


def test_train_and_val_cannot_decide(search: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--confirm", "tiny", "--results", str(search.parent), "--data", str(tiny_data)]
    assert run.main([*asked, "--set", "data.train_split=train+val"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "data.train_split cannot be set in a confirmation: val decides here" in error


@pytest.mark.long
def test_final_trainings_are_tested_once_and_resumed(
    search: Path, tiny_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longer = {"train.steps_per_epoch": 40}

    def confirm(*, final: bool, seeds: int = 3):
        return run_confirm(search, data=tiny_data, top=1, seeds=seeds, final=final, overrides=longer)

    found = confirm(final=True)
    folder = search / "confirm"
    assert found.winner is not None and found.final is not None and found.final.difference is not None
    assert found.test_difference is None and not list((folder / "runs").glob("*/test.json"))
    assert any("reading the test split for the final trainings of 001" in message for message in caplog.messages)
    runs = sorted(p.name for p in (folder / "final" / "runs").iterdir())
    assert runs == [f"{name}-s{seed}" for name in ("000", "001") for seed in (1, 2, 3)]
    for name in runs:
        place = folder / "final" / "runs" / name
        config, history = load_config(place / "config.json"), read_metrics(place)
        assert config.data.train_split == "train+val" and METRIC not in history[-1] and len(history) == 4
        best = checkpoint.load(place / "best.pt")
        run_of = next(r for c in (found.default, *found.candidates) for r in c.runs if r.directory == f"runs/{name}")
        assert best["epoch"] == 4 and run_of.decode.items() <= best["config"]["decode"].items()
    assert load_confirmed(folder / "confirm.json") == found

    stamps = {p: p.stat().st_mtime_ns for p in (folder / "final").rglob("*.json*")}
    assert confirm(final=True).final == found.final
    assert {p: p.stat().st_mtime_ns for p in (folder / "final").rglob("*.json*")} == stamps, "trained and read once"
    plain = confirm(final=False)
    assert plain.final == found.final and plain.test_difference is not None
    assert confirm(final=True).test_difference == plain.test_difference, "what was read stays in the report"

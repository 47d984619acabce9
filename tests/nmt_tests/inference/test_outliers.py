"""Figures of keypoints without a partner, and where their calibration comes from."""

from __future__ import annotations

import dataclasses
import json

import pytest

from nmt import checkpoint
from nmt.errors import UserError
from nmt.inference.evaluate import Evaluation, evaluate_checkpoint
from nmt.inference.outliers import OutlierFigures


@pytest.fixture(scope="module")
def found(trained, toy_data):
    return evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test", outliers=True)


@pytest.fixture
def without(trained, tmp_path):
    """best.pt as an earlier version wrote it."""
    content = checkpoint.load(trained / "best.pt")
    del content["calibration"], content["config"]["decode"]["unmatched"]
    checkpoint.save(tmp_path / "best.pt", content)
    return tmp_path / "best.pt"


def test_accuracy_is_the_same_with_and_without_the_figures_and_whatever_is_left_out(found, trained, toy_data):
    plain = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test")
    assert plain.outliers is None and plain.mean == found.mean and plain.per_category == found.per_category
    strict = evaluate_checkpoint(
        trained / "best.pt", data=toy_data, split="test", decode={"decode.unmatched": 0.99}, outliers=True
    )
    assert strict.mean == found.mean
    assert (strict.outliers.chosen, strict.outliers.threshold) == ("0.99", 0.99)
    assert strict.outliers.figures["inter"]["kept"] < found.outliers.figures["inter"]["kept"]


def test_figures_are_by_protocol_and_pooled(found):
    figures = found.outliers.figures
    assert list(figures) == ["inter", "union", "drop2", "drop4", "both30", "cross", "noc", "mix"]
    assert "recall" not in figures["cross"] and figures["cross"]["precision"] == 0
    assert figures["mix"]["precision"] < figures["noc"]["precision"]
    assert figures["mix"]["recall"] == figures["noc"]["recall"]
    assert figures["mix"]["f1"] > figures["mix"]["f1_all_matched"]
    assert found.outliers.chosen == "f1" and "from the checkpoint" in found.outliers.note


def test_the_table_names_what_was_done_and_fits_a_terminal(found):
    lines = found.outliers.table().splitlines()
    assert lines[0].startswith(f"keypoints without a partner, {found.outliers.pairs} pairs a protocol")
    assert lines[-1].split()[0] == "mix" and max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[-9:]] == ["protocol", *found.outliers.figures]
    assert "-" in next(line for line in lines if line.startswith("cross")).split()


def test_an_evaluation_survives_json_and_one_of_before_is_read(found):
    content = json.loads(json.dumps(dataclasses.asdict(found)))
    assert Evaluation.from_dict(content) == found
    del content["outliers"]
    assert Evaluation.from_dict(content).outliers is None


def test_a_checkpoint_of_before_is_fitted_on_val_on_the_spot(found, without, toy_data):
    now = evaluate_checkpoint(without, data=toy_data, split="test", outliers=True)
    assert now.outliers.figures == found.outliers.figures and now.mean == found.mean
    assert now.outliers.note.startswith(f"fitted on val now, for {without} holds none")
    assert "calibration" not in checkpoint.load(without)


def test_hungarian_is_warned_of(found, trained, toy_data):
    decode = {"decode.assignment": "hungarian"}
    warned = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test", decode=decode, outliers=True)
    assert "hungarian loses recall" in warned.outliers.note and "hungarian" not in found.outliers.note


def test_figures_on_val_are_called_flattering(trained, toy_data):
    assert "flattering" in evaluate_checkpoint(
        trained / "best.pt", data=toy_data, split="val", outliers=True
    ).outliers.table().replace("\n  ", " ")


def test_without_val_there_is_one_line_and_accuracy_all_the_same(found, without, make_store, toy_objects, toy_data):
    content = checkpoint.load(without)
    content["config"]["data"]["train_split"] = "train+val"
    checkpoint.save(without, content)
    none = evaluate_checkpoint(without, data=toy_data, split="test", outliers=True)
    assert none.mean == found.mean and none.outliers.pairs == 0 and none.outliers.figures == {}
    line = none.outliers.table().replace("\n  ", " ")
    assert line.startswith("no figures of keypoints without a partner: val was trained on (data.train_split)")
    assert "train with data.train_split = train" in line
    with pytest.raises(UserError, match=r"has no confidences, which decode.unmatched = f1 needs"):
        evaluate_checkpoint(without, data=toy_data, split="test", decode={"decode.unmatched": "f1"}, outliers=True)


def test_a_precision_out_of_reach_is_refused(trained, toy_data, tmp_path):
    content = checkpoint.load(trained / "best.pt")
    content["calibration"]["curve"] = [[0.0, 0.5], [0.5, 0.875]]
    checkpoint.save(tmp_path / "best.pt", content)
    asked = {"data": toy_data, "split": "test", "outliers": True}
    reached = evaluate_checkpoint(tmp_path / "best.pt", decode={"decode.unmatched": "precision=0.8"}, **asked)
    assert reached.outliers.threshold == 0.5
    with pytest.raises(UserError, match=r"best.pt: decode.unmatched = precision=0.9: no threshold .* is 0.875$"):
        evaluate_checkpoint(tmp_path / "best.pt", decode={"decode.unmatched": "precision=0.9"}, **asked)


def test_no_pairs_give_the_note_alone():
    assert OutlierFigures(0, 0.0, "off", {}, "none, for a reason").table() == "none, for a reason"

import json

import pytest

from nmt.config import (
    SETTINGS,
    Config,
    from_dict,
    load_config,
    to_dict,
    to_flat,
    with_overrides,
)
from nmt.errors import UserError


def test_defaults_are_the_published_recipe():
    flat = to_flat(Config())
    assert (flat["model.d_model"], flat["model.heads"], flat["model.decoder_layers"]) == (648, 12, 4)
    assert (flat["optim.lr"], flat["optim.milestones"], flat["loss.layer"]) == (5e-4, [2, 5], 0.3)


def test_configuration_survives_json():
    config = with_overrides(Config(), {"optim.milestones": [1, 3], "loss.temperature": 0.07}, source="test")
    assert from_dict(json.loads(json.dumps(to_dict(config))), source="test") == config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.milestone", [1], r"no configuration key 'optim.milestone'; did you mean 'optim.milestones'\?"),
        ("optim.learning_rate", 1, r"no configuration key 'optim.learning_rate'; known: .*optim.lr,"),
        ("optim.lr", "fast", r"optim.lr must be a number above 0 and at most 1, but got \"fast\""),
        ("optim.lr", 0, r"optim.lr must be a number above 0"),
        ("optim.lr", float("nan"), r"optim.lr must be a number"),
        ("model.heads", True, r"model.heads must be an integer at least 1"),
        ("model.heads", 5, r"model.d_model must be a multiple of model.heads.*nearest widths: 645, 650"),
        ("loss.layer_weighting", "flatt", r"must be one of flat, linear, but got \"flatt\""),
        ("optim.milestones", [5, 2], r"optim.milestones must increase"),
        ("optim.milestones", 5, r"optim.milestones must be a list of integers"),
    ],
)
def test_wrong_value_is_one_line_that_says_what_is_right(key, value, message):
    with pytest.raises(UserError, match=message) as caught:
        with_overrides(Config(), {key: value}, source="--set")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("--set: ")


def test_all_losses_off_is_refused():
    off = {"loss.info_nce": 0, "loss.hyperspherical": 0, "loss.layer": 0}
    with pytest.raises(UserError, match="nothing to train on"):
        with_overrides(Config(), off, source="test")


def test_broken_json_file_names_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"config.json: not a readable JSON"):
        load_config(path)


def test_only_the_decoding_is_marked_inference_only():
    assert {key for key, s in SETTINGS.items() if s.inference} == {
        "decode.sinkhorn_iterations",
        "decode.epsilon",
        "decode.assignment",
        "decode.unmatched",
    }


def test_matches_to_leave_out_are_given_as_a_word_or_a_number():
    for value, kept in (("f1", "f1"), (0.4, "0.4"), ("precision=0.9", "precision=0.9")):
        assert with_overrides(Config(), {"decode.unmatched": value}, source="x").decode.unmatched == kept
    with pytest.raises(
        UserError, match=r"x: decode.unmatched must be off, f1, precision=P or a confidence, .* got 1.5"
    ):
        with_overrides(Config(), {"decode.unmatched": 1.5}, source="x")


LOSING = {"data.outliers": 0.5}


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({}, None),
        ({"data.outliers_from": 3}, None),  # nothing begins
        (LOSING, 2),
        ({"data.cross": 0.1, "loss.unmatched": "dustbin", "optim.milestones": [9, 11]}, 9),
        (LOSING | {"data.outliers_from": 0}, 0),
        (LOSING | {"data.outliers_from": 7, "optim.schedule": "cosine"}, 7),
    ],
)
def test_keypoints_are_lost_from_the_first_milestone_or_the_epoch_that_is_set(changes, begins):
    assert with_overrides(Config(), changes, source="test").outliers_from == begins


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (LOSING | {"optim.schedule": "cosine"}, "begin after all 12 epochs; set data.outliers_from, or an earlier"),
        (LOSING | {"optim.milestones": []}, "begin after all 12 epochs"),
        (LOSING | {"train.epochs": 2}, "begin after all 2 epochs"),
        (LOSING | {"data.outliers_from": 12}, "begin after all 12 epochs"),
        ({"data.cross": 0.2}, 'data.cross needs loss.unmatched = "dustbin"'),
        (
            {"loss.unmatched": "dustbin", "loss.matching": "sinkhorn"},
            'loss.unmatched = "dustbin" goes with loss.matching = "infonce", but it is "sinkhorn"',
        ),
    ],
)
def test_what_would_never_begin_or_teach_nothing_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        with_overrides(Config(), changes, source="--set")
    assert "\n" not in str(caught.value)

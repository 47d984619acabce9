from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.read import load_space


def test_lists_are_searched_as_values(space_file: Path) -> None:
    space = load_space(edited(space_file, LR, '"optim.milestones" = { values = [[], [2, 3]] }'))
    parameter = space.parameters[0]
    assert parameter.encode((2, 3)) == "[2, 3]" and parameter.decode("[2, 3]") == (2, 3)
    assert space.configuration({"optim.milestones": (2, 3)}).optim.milestones == (2, 3)


@settings(deadline=None)
@given(low=st.integers(1, 50), steps=st.integers(1, 20), step=st.integers(1, 7))
def test_every_choice_of_a_stepped_range_is_within_it(low: int, steps: int, step: int) -> None:
    from tune.spaces.parameter import Parameter

    parameter = Parameter(key="model.heads", type=int, low=low, high=low + steps * step, step=step)
    choices = parameter.choices()
    assert choices is not None and len(choices) == steps + 1 and choices[-1] == parameter.high
    assert all(parameter.contains(c) for c in choices) and not parameter.contains(low - 1)


def test_sinkhorn_iterations_are_trained_for_where_the_loss_goes_through_them(space_file: Path) -> None:
    ranged = '"decode.sinkhorn_iterations" = { low = 1, high = 50 }\n[search]'
    with pytest.raises(UserError, match="sinkhorn_iterations is read at inference.*give values"):
        load_space(edited(space_file, "[search]", ranged))
    space = load_space(space_file, {"loss.matching": "sinkhorn"})
    assert {"decode.sinkhorn_iterations", "decode.epsilon"} <= {p.key for p in space.parameters} and not space.sweep
    assert space.decode_grid() == ()


def test_iterations_of_one_of_several_losses_are_searched_in_its_trials_alone(space_file: Path) -> None:
    both = (
        '"loss.matching" = { values = ["infonce", "sinkhorn"] }\n"decode.sinkhorn_iterations" = '
        '{ low = 1, high = 50, when = { "loss.matching" = "sinkhorn" } }\n[search]'
    )
    space = load_space(edited(space_file, "[search]", both))
    assert [p.key for p in space.sweep] == ["decode.epsilon"]
    assert "decode.sinkhorn_iterations" not in space.default_params
    values = {"optim.lr": 0.01, "loss.layer_weighting": "flat", "loss.matching": "sinkhorn"}
    assert "decode.sinkhorn_iterations" in space.active(values | {"decode.sinkhorn_iterations": 9})

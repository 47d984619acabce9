from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.parameter import RELATIONS, Condition, Parameter, read_parameters
from tune.spaces.read import load_space


def test_lists_are_searched_as_values(space_file: Path) -> None:
    space = load_space(edited(space_file, LR, '"optim.milestones" = { values = [[], [2, 3]] }'))
    parameter = space.parameters[0]
    assert parameter.encode((2, 3)) == "[2, 3]" and parameter.decode("[2, 3]") == (2, 3)
    assert space.configuration({"optim.milestones": (2, 3)}).optim.milestones == (2, 3)


@settings(deadline=None)
@given(low=st.integers(1, 50), steps=st.integers(1, 20), step=st.integers(1, 7))
def test_every_choice_of_a_stepped_range_is_within_it(low: int, steps: int, step: int) -> None:
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


stepped = st.builds(
    lambda low, steps, step: Parameter(
        key="loss.layer", type=float, low=low, high=round(low + steps * step, 12), step=step
    ),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.integers(1, 9),
    st.sampled_from([0.1, 0.05, 0.3]),
)
whole = st.builds(
    lambda low, width, log: Parameter(key="model.heads", type=int, low=low, high=low + width, log=log, step=1),
    st.integers(1, 5),
    st.integers(1, 9),
    st.booleans(),
)
listed = st.builds(
    lambda values: Parameter(key="optim.lr", type=float, values=tuple(values)),
    st.lists(st.floats(1e-6, 1), min_size=2, max_size=5, unique=True),
)
lists = st.just(
    Parameter(key="optim.milestones", type=tuple, values=((), (1, 2)), when=(Condition("optim.lr", ">=", 0.25),))
)


@given(stepped | whole | listed | lists)
def test_every_choice_survives_the_study_and_the_file(parameter: Parameter) -> None:
    choices = parameter.choices()
    assert choices is not None and len(set(choices)) == len(choices) > 1
    for value in choices:
        assert parameter.contains(value) and parameter.decode(parameter.encode(value)) == value
        assert isinstance(parameter.encode(value), int | float | str)
    written = json.loads(json.dumps(parameter.to_dict()))
    (again,) = read_parameters({parameter.key: written}, "test")
    assert again.choices() == choices and again.when == parameter.when and again.log == parameter.log


@given(st.sampled_from(sorted(RELATIONS)), st.integers(-3, 3), st.integers(-3, 3))
def test_a_condition_holds_as_its_relation_says(relation: str, value: int, wanted: int) -> None:
    expected = {"<": value < wanted, "<=": value <= wanted, ">": value > wanted, ">=": value >= wanted,
                "=": value == wanted, "!=": value != wanted}[relation]  # fmt: skip
    condition = Condition("loss.layer", relation, wanted)
    assert condition.holds(value) is expected and str(condition) == f"loss.layer {relation} {wanted}"


def test_a_key_is_searched_where_all_its_conditions_hold_and_their_keys_are() -> None:
    both = (Condition("a", ">", 0), Condition("b", "=", "x"))
    parameter = Parameter(key="optim.lr", type=float, low=0.1, high=0.2, when=both)
    assert parameter.active({"a": 1, "b": "x"})
    assert not any(parameter.active(values) for values in ({"a": 0, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1}, {}))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"low": 1e-4, "high": 0.1, "log": True}, "0.0001 to 0.1 (log)"),
        ({"values": [0.1, 0.02]}, "0.1, 0.02"),
        ({"low": 0.1, "high": 0.5, "step": 0.2}, "0.1 to 0.5 by 0.2"),
        ({"low": 0.1, "high": 0.5, "when": {"loss.layer": "> 0"}}, "0.1 to 0.5, when loss.layer > 0"),
    ],
)
def test_a_range_in_words(spec: dict[str, object], words: str) -> None:
    (parameter,) = read_parameters({"optim": {"lr": spec}}, "test")
    assert parameter.key == "optim.lr" and parameter.describe() == words


def test_only_numbers_among_values_have_an_order() -> None:
    def parameter(kind: type, values: tuple[object, ...]) -> Parameter:
        return Parameter(key="optim.lr", type=kind, values=values)

    assert parameter(float, (3.0, 1.0, 2.0)).ordered == (1.0, 2.0, 3.0)
    assert parameter(bool, (True, False)).ordered is None and parameter(str, ("b", "a")).ordered is None
    assert Parameter(key="optim.lr", type=float, low=0.1, high=1).ordered is None

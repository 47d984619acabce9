from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.config import Config, flatten, to_flat
from nmt.errors import UserError
from nmt.recipes import RECIPES, read_recipe, recipe
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.read import load_space


def test_space_of_the_file_is_read_with_its_types(space_file: Path) -> None:
    space = load_space(space_file)
    assert space.name == "tiny" and space.base.train.epochs == 4 and space.search.trials == 5
    assert [p.key for p in space.parameters] == ["optim.lr", "loss.layer_weighting"]
    assert [p.key for p in space.sweep] == ["decode.epsilon"]
    assert space.default_params == {"optim.lr": 1e-4, "loss.layer_weighting": "flat"}


def test_nested_and_dotted_keys_mean_the_same(space_file: Path) -> None:
    dotted = load_space(space_file)
    nested = load_space(edited(space_file, LR, "optim.lr = { low = 1e-5, high = 1e-1, log = true }"))
    assert nested.parameters == dotted.parameters


def test_overrides_change_the_default_configuration(space_file: Path) -> None:
    assert load_space(space_file, {"optim.lr": 0.01}).default_params["optim.lr"] == 0.01


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("optim.lr", "optim.lrr", r"\[space\]: no configuration key 'optim.lrr'; did you mean 'optim.lr'\?"),
        ("low = 1e-5", "low = 1", r"low must be below high, but got low = 1.0, high = 0.1"),
        ("low = 1e-5", "low = 0", r"optim.lr low: optim.lr must be a number above 0 and at most 1, but got 0"),
        ("high = 1e-1", "high = 5", r"optim.lr high: .* at most 1, but got 5"),
        ("high = 1e-1", "hihg = 1e-1", r"\[space\] optim.lr: unknown key 'hihg'; did you mean 'high'\?"),
        ("low = 1e-5, ", "", r"optim.lr: low is missing"),
        ("log = true", "log = 1", r"log must be true or false, but got 1"),
        (LR, '"optim.lr" = 0.1', r"optim.lr needs \{ low = .*but got 0.1"),
        (LR, '"loss.layer" = { low = 0, high = 1, log = true }', r"a log range must begin above 0, but got low = 0.0"),
        (LR, '"optim.lr" = { low = 1e-5, high = 1e-1, step = 0.03 }', r"do not meet high = 0.1; nearest: 0.09001"),
        (LR, '"model.heads" = { low = 2, high = 4, step = 0.5 }', r"step must be a positive int, but got 0.5"),
        (LR, '"optim.lr" = { low = 1e-5, high = 1e-1, log = true, step = 1e-5 }', r"a log range has no step"),
        (LR, '"optim.lr" = { low = 1e-3, high = 1e-1 }', r"leaves out its default 0.0001 \(trial 0\)"),
        (LR, '"optim.lr" = { values = [1e-4] }', r"at least two, but got \[0.0001\]"),
        (LR, '"optim.lr" = { values = [1e-4, 1e-4] }', r"the same value twice"),
        (LR, '"model.spline_backend" = { low = 0, high = 1 }', r"one of matmul, torch_spline_conv, pyg: give values"),
        (LR, '"train.compile" = { low = 0, high = 1 }', r"true or false: give values"),
        (LR, '"train.seed" = { low = 0, high = 9 }', r"train.seed cannot be searched: a lucky seed"),
        (LR, '"decode.unmatched" = { values = ["off", "f1"] }', r"decode.unmatched cannot be searched: accuracy"),
        (LR, '"model.heads" = { values = [2, 3] }', r"d_model must be a multiple of model.heads.*d_model=16, heads=3"),
        (LR, '"model.d_model" = { low = 16, high = 20 }', r"d_model=17, heads=2"),
        ('["flat", "linear"]', '["flat", "cubic"]', r'one of flat, linear, but got "cubic"'),
        ("values = [0.01, 0.035, 0.2]", "low = 0.01, high = 0.2", r"read at inference.*give values"),
        ("values = [0.01, 0.035, 0.2]", "values = [0.01, 0.2]", r"is 0.01, 0.2, which leaves out its default 0.035"),
        ("trials = 5", "trails = 5", r"\[search\]: unknown key 'trails'; did you mean 'trials'\?"),
        ("trials = 5", 'sampler = "tpee"', r'sampler must be one of tpe, gp, .* grid, but got "tpee"'),
        (LR, LR[:-1] + ', when = "loss.layer > 0" }', r"optim.lr: when must be a table"),
        (LR, LR[:-1] + ', when = { "loss.layer" = "> 0" } }', r"optim.lr when: loss.layer is not a training parameter"),
        (LR, LR[:-1] + ', when = { "loss.layer" = "> x" } }', r'when: loss.layer must be a number .*, but got "x"'),
        (LR, LR[:-1] + ', when = { "loss.layer_weighting" = "> flat" } }', r"which > does not compare; use = or !="),
        (LR, LR[:-1] + ', when = { "loss.layer_weighting" = "!= flat" }, x = 1 }', r"optim.lr: unknown key 'x'"),
        (
            "values = [0.01, 0.035, 0.2] }",
            'values = [0.01, 0.035, 0.2], when = { "optim.lr" = "< 1" } }',
            r"decode.epsilon when: a decode key is tried in every trial at no cost",
        ),
        (LR, '"loss.layer" = { values = [0.3, 0.5], when = { "loss.layer_weighting" = "flat" } }\n"optim.lr" = '
         '{ low = 1e-5, high = 1e-1, when = { "loss.layer" = "> 0.6" } }', r"loss.layer is itself searched in some"),
        (LR, '"model.decoder_layers" = { low = 1, high = 3 }\n"optim.lr" = { low = 1e-5, high = 1e-1, when = '
         '{ "model.decoder_layers" = "> 3" } }', r"model.decoder_layers > 3 never holds for .* which is 1 to 3"),
        ("trials = 5", 'objectives = ["val/accuracy", "decoder_parameters"]', r'several objectives go with .* "fifo"'),
        ("trials = 5", 'objectives = ["decoder_parameters"]', r'objectives begin with "val/accuracy", each once'),
        ("trials = 5", 'objectives = ["val/accuracy", "size"]', r"objectives must be a list of val/accuracy, val/f1"),
        (
            "trials = 5",
            'objectives = ["val/accuracy", "inference_seconds"]\nscheduler = "fifo"\nsampler = "cmaes"',
            r'"cmaes" has one objective; take "nsga2", "tpe" or "gp"',
        ),
        (
            "trials = 5",
            'objectives = ["val/accuracy", "decoder_parameters"]\nscheduler = "fifo"\nsampler = "gp_curves"',
            r'"gp_curves" has one objective; take "nsga2", "tpe" or "gp"',
        ),
        ("trials = 5", 'warm_start = "results/x"\nsampler = "random"', r"warm_start goes with one objective and"),
        ("trials = 5", "epochs = 7", r"epochs = 7 is not enough for the default .* and one more .*; at least 8"),
        ("trials = 5", "epochs = 19\nreselect = 3", r"not enough .* one more, and 3 trained again .*; at least 20"),
        ("trials = 5", 'reselect = 3\nscheduler = "asha_stop"', r"reselect goes with one objective and scheduler"),
        ("trials = 5", "reselect = -1", r"reselect must be an integer at least 0"),
        ("trials = 5", "hours = 0.0", r"hours must be a number above 0, but got 0.0"),
        ("trials = 5", "gpu_hours = 1", r"gpu_hours limits nothing: a trial takes no GPU"),
        ("trials = 5", "grace_epochs = 5", r"grace_epochs = 5 is more than train.epochs = 4"),
        ("trials = 5", 'sampler = "grid"', r"grid\" needs values or a step for optim.lr"),
        ("[search]", "[resources]\ncpu = 2\n[search]", r"\[resources\]: unknown key 'cpu'; did you mean 'cpus'\?"),
        ("[search]", "[resources]\nworkers = 0\n[search]", r"workers must be an integer at least 1"),
        ("description", "descripton", r"unknown key 'descripton'; did you mean 'description'\?"),
        ("steps_per_epoch = 4", 'steps_per_epoch = "4"', r"\[base\]: train.steps_per_epoch must be an integer"),
        ("trials = 5", "trials = ", r"tiny.toml: not valid TOML: .*at line 16"),
    ],
)  # fmt: skip
def test_mistake_in_the_file_is_named_with_its_place(space_file: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_space(edited(space_file, old, new))
    assert "tiny.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_override_is_named_as_such(space_file: Path) -> None:
    with pytest.raises(UserError, match="--set: no configuration key 'optim.rl'; did you mean 'optim.lr'"):
        load_space(space_file, {"optim.rl": 1})


def test_unknown_search_names_the_nearest() -> None:
    with pytest.raises(UserError, match="no recipe named 'dmeo' in .*search_spaces; did you mean 'demo'"):
        load_space("dmeo")


@pytest.mark.parametrize("name", ["voc", "spair", "voc_dino"])
def test_trials_on_images_are_first_compared_after_the_rate_has_dropped(name: str) -> None:
    """Just before, high rates look worst. Where another milestone is a rung, the same holds there."""
    space = load_space(name)
    milestones, search = space.base.optim.milestones, space.search
    rungs = [search.grace_epochs * search.reduction_factor**k for k in range(5)]
    assert rungs[0] > milestones[0] and not set(rungs) & set(milestones) and rungs[1] < space.base.train.epochs


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.toml") if read_recipe(p).tables.get("space")))
def test_search_space_of_the_project_is_sound(name: str) -> None:
    space = load_space(name)
    assert space.name == name and space.description
    assert json.loads(json.dumps(space.to_dict()))["search"]["trials"] >= 2
    for point in (space.default_params, {p.key: (p.values or (p.low, p.high))[-1] for p in space.parameters}):
        space.configuration(point)


@pytest.mark.parametrize("name", ["voc", "spair"])
def test_published_recipe_is_the_base_and_written_out(name: str) -> None:
    flat, published = to_flat(recipe(name)), to_flat(Config())
    differing = {key for key in flat if flat[key] != published[key]}
    assert differing <= {"data.name", "data.pairs_per_step", "data.pad_keypoints"}  # padding changes no result
    written = flatten(read_recipe("voc").tables["base"], source=name)
    in_force = {key for key, value in published.items() if value not in (0, False)}
    assert in_force - {"train.loggers"} <= written.keys()  # where metrics go is no part of a recipe
    searched = {p.key for p in (*load_space(name).parameters, *load_space(name).sweep)}
    assert {
        "loss.temperature", "loss.hyperspherical", "loss.layer", "loss.layer_weighting", "model.decoder_layers",
        "decode.sinkhorn_iterations", "decode.epsilon", "optim.lr",
    } <= searched  # fmt: skip


def test_reading_a_space_imports_neither_ray_nor_torch() -> None:
    script = "import sys, tune.spaces.read; print(sorted({'ray', 'torch', 'optuna', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=RECIPES.parent
    )
    assert done.stdout.strip() == "[]"

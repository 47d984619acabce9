"""Recipes: what a file starts from, what it changes, and mistakes in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nmt import recipes
from nmt.config import Config, to_flat, with_overrides
from nmt.errors import UserError
from nmt.recipes import RECIPES, check_name, find_recipe, read_recipe, recipe, recipe_names, shown_path
from tests.paths import ROOT

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes: grandchild from child from parent."""
    monkeypatch.setattr(recipes, "RECIPES", tmp_path)
    write(tmp_path, "parent", "[base]\noptim.lr = 0.01\nmodel = { d_model = 24, heads = 2 }")
    write(tmp_path, "child", 'from = "parent"\n[base]\nmodel.heads = 3')
    write(tmp_path, "grandchild", 'from = "child"\nname = "own"\n[base]\ntrain.epochs = 2')
    return tmp_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_of_the_project_is_the_same_by_name_and_by_path(name: str) -> None:
    assert recipe(name) == recipe(RECIPES / f"{name}.toml") == recipe(str(RECIPES / f"{name}.toml"))
    assert read_recipe(name).description and read_recipe(name).name == name


def test_a_recipe_is_what_it_starts_from_with_its_own_values_over_it(folder: Path) -> None:
    changes = {"data.name": "own", "optim.lr": 0.01, "model.d_model": 24, "model.heads": 3, "train.epochs": 2}
    assert recipe("grandchild") == with_overrides(Config(), changes, source="test")
    assert recipe("parent").model.heads == 2  # files are not changed by those that start from them
    assert read_recipe("grandchild").name == "own" and read_recipe("child").name == "child"


def test_a_value_is_checked_together_with_what_it_inherits(folder: Path) -> None:
    path = write(folder, "wrong", 'from = "parent"\n[base]\nmodel.heads = 5')
    with pytest.raises(UserError, match=r"wrong.toml: \[base\]: model.d_model must be a multiple of model.heads"):
        recipe(path)


@pytest.mark.parametrize("ring", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_recipes_that_start_from_each_other_are_refused(folder: Path, ring: list[str]) -> None:
    for name, start in zip(ring, [*ring[1:], ring[0]], strict=True):
        write(folder, name, f'from = "{start}"')
    with pytest.raises(UserError, match=r"from = 'a' leads back to this file") as error:
        recipe("a")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from = 3", r"from must name a recipe of .*, but got 3"),
        ('from = "../parent"', r"from must name a recipe of .*, but got '../parent'"),
        ('from = "parnet"', r"from: no recipe named 'parnet' in .*; did you mean 'parent'\?"),
        ("bse = {}", r"unknown key 'bse'; did you mean 'base'\?"),
        ("base = 3", r"base must be a table, \[base\]"),
        ("[base]\noptim.lrr = 1", r"\[base\]: no configuration key 'optim.lrr'; did you mean 'optim.lr'\?"),
        ("[base]\noptim.lr = 7", r"\[base\]: optim.lr must be a number above 0 and at most 1, but got 7"),
        ("[base]\n= 3", "not valid TOML: .*line 2"),
        ('name = "a b"', "name must be letters, digits, _ or -, but got 'a b'"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(folder: Path, text: str, message: str) -> None:
    path = write(folder, "mine", text)
    with pytest.raises(UserError, match=message) as error:
        (read_recipe(path).base(), read_recipe(path).name)
    assert "mine.toml" in str(error.value) and "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_one_line(folder: Path) -> None:
    (folder / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="mine.toml: cannot be read"):
        read_recipe(folder / "mine.toml")


def test_a_file_is_found_by_path_and_a_name_by_its_nearest(folder: Path) -> None:
    assert find_recipe("child") == folder / "child.toml" == find_recipe(folder / "child.toml")
    with pytest.raises(UserError, match=r"absent.toml: no such search space file"):
        find_recipe(folder / "absent.toml")
    with pytest.raises(UserError, match=r"no recipe named 'grandchld' in .*; did you mean 'grandchild'\?"):
        find_recipe("grandchld")
    with pytest.raises(
        UserError, match=r"'child'\? Pictures of your own need no recipe: .*--prepare child2 --raw DIR; to"
    ):
        find_recipe("child2")


def test_a_data_set_of_ones_own_has_the_recipe_of_a_laptop() -> None:
    assert to_flat(recipe("birds", own=True)) == to_flat(recipe("laptop")) | {"data.name": "birds"}
    assert recipe("birds", own=True).data.mode == "features" and recipe("birds", own=True).model.weights == "package"
    assert recipe("willow", own=True) == recipe("willow")
    with pytest.raises(UserError, match="no recipe named 'birds'"):
        recipe("birds")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[base]\ntrain.epochs = 2", "birds"),
        ('from = "parent"', "birds"),
        ('from = "voc"', "voc"),
        ('from = "voc"\n[base]\ndata = { name = "cups" }', "cups"),
        ('from = "parent"\n[base]\ndata.name = "cups"', "cups"),
        ('name = "finches"\nfrom = "parent"', "finches"),
        ('from = "between"', "voc"),
        ("", "birds"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_the_data_set_is_named_after_the_file_unless_one_of_the_chain_names_it(
    folder: Path, text: str, name: str, inside: bool
) -> None:
    write(folder, "voc", '[base]\ndata = { name = "voc" }')
    write(folder, "between", 'from = "voc"')
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    path = write(folder if inside else elsewhere, "birds", text)
    assert recipe(path).data.name == name
    if inside:
        assert recipe("birds").data.name == name


@pytest.mark.parametrize(
    ("shipped", "name"),
    [
        ("demo", "demo"),
        ("spair", "spair"),
        ("spair_ablation", "spair"),
        ("voc", "voc"),
        ("voc_ablation", "voc"),
        ("voc_dino", "voc"),
        ("voc_features", "voc"),
        ("willow", "willow"),
        ("willow_ablation", "willow_rotated"),
        ("willow_rotated", "willow_rotated"),
    ],
)
def test_a_recipe_of_the_project_keeps_its_data_set(shipped: str, name: str) -> None:
    assert recipe(shipped).data.name == name


def test_a_file_whose_name_no_data_set_can_have_names_one_itself(folder: Path) -> None:
    path = write(folder, "my birds", "[base]\ntrain.epochs = 2")
    with pytest.raises(UserError, match=r"my birds.toml: name must be letters, digits, _ or -, but got 'my birds'"):
        recipe(path)
    assert recipe(write(folder, "my birds", '[base]\ndata.name = "birds"')).data.name == "birds"


@pytest.mark.parametrize("name", ["my birds", "", "birds/2024", "vögel", "a" * 300, "birds.csv", "../birds", "."])
def test_a_name_that_no_data_set_can_have_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=r"is no name of a data set: use up to 100 letters, digits, _ and -") as error:
        recipe(name, own=True)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    with pytest.raises(UserError):
        recipe(name)


def test_a_name_is_proposed(folder: Path) -> None:
    with pytest.raises(UserError, match=r"'my birds!' .* such as my_birds$"):
        check_name("my birds!")
    assert check_name("my_birds-2") == "my_birds-2"


def test_paths_are_shown_as_the_user_would_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "a" / "b.toml") == "a/b.toml"
    assert shown_path(Path("/elsewhere/b.toml")) == "/elsewhere/b.toml"


def test_an_ablation_is_told_from_a_search() -> None:
    assert [name for name in NAMES if read_recipe(name).is_ablation] == [n for n in NAMES if n.endswith("_ablation")]


def test_reading_a_recipe_imports_neither_ray_nor_torch() -> None:
    code = "import sys; from nmt.recipes import recipe; recipe('voc'); print({'ray', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's search_spaces/ below a working directory that is not the project's."""
    own = folder / "work/search_spaces"
    own.mkdir(parents=True)
    monkeypatch.chdir(own.parent)
    return own


def test_a_users_file_wins_over_the_projects_of_its_name(folder: Path, own: Path) -> None:
    assert recipe("parent").model.d_model == 24 and "parent" in recipe_names() and "birds" not in recipe_names()
    write(own, "parent", "[base]\nmodel = { d_model = 36, heads = 3 }")
    write(own, "birds", 'from = "parent"')
    assert recipe("parent").model.d_model == recipe("birds").model.d_model == 36
    assert find_recipe("parent") == Path("search_spaces/parent.toml") and "birds" in recipe_names()
    assert find_recipe(folder / "parent.toml") == folder / "parent.toml"
    assert recipe("child").model.d_model == 24  # a recipe of the project starts from the project's


def test_a_users_file_starts_from_the_projects_of_its_own_name(folder: Path, own: Path) -> None:
    path = write(own, "parent", 'from = "parent"\n[base]\ntrain.epochs = 3')
    for given in ("parent", path, Path("search_spaces/parent.toml")):
        assert (recipe(given).model.d_model, recipe(given).train.epochs) == (24, 3)
    write(own, "alone", 'from = "alone"')
    with pytest.raises(UserError, match=r"search_spaces/alone.toml: from = 'alone' leads back to this file"):
        recipe("alone")


def test_a_name_that_no_file_has_names_both_folders(folder: Path, own: Path) -> None:
    with pytest.raises(UserError, match=rf"no recipe named 'chidl' in search_spaces or {folder}; did you mean 'child'"):
        recipe("chidl")
    own.rmdir()
    with pytest.raises(UserError, match=rf"no recipe named 'chidl' in {folder}; did you mean 'child'"):
        recipe("chidl")

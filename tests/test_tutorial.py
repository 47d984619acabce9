"""docs/tutorial.md and docs/notebook.ipynb: their commands and cells run, one after another, in one folder."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from tests.paths import ROOT
from tests.toy_pictures import write_toys
from tune.cli.main import main
from tune.driver.ray_session import ray_session

TEXT = (ROOT / "docs/tutorial.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^python run.py (.*)$", TEXT, re.MULTILINE)]
ELSEWHERE = {
    "--serve": "tests/tune_tests/cli/test_serve.py",  # it does not end by itself
    "--export": "tests/nmt_tests/inference/export/test_write.py",  # a minute
}
"""job -> the test that runs it instead"""
CELLS = [
    "".join(cell["source"])
    for cell in json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]
    if cell["cell_type"] == "code"
]
SHORT = {r"milestones = .*": "milestones = [1] }", r"train = .*": "train = { epochs = 2, steps_per_epoch = 4 }"}
"""what replaces lines of the recipe that --init writes, so that a training takes a second"""
FEWER = {"--trials": "8", "--seeds": "3"}
"""flag -> its value here"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which the tutorial was followed with fewer pictures and trials, and what each job printed."""
    folder, said = tmp_path_factory.mktemp("tutorial"), {}
    write_toys(folder, each=12)
    with ray_session(), contextlib.chdir(folder):  # one Ray for search and confirmation
        for words in COMMANDS:
            if words[0] in ELSEWHERE:
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                assert main([FEWER.get(before, word) for before, word in pairwise(["", *words])]) == 0, words
            said[words[0]] = printed.getvalue()
            if words[0] == "--init":
                shorten(Path("search_spaces/toys.toml"))
    return folder, said


def shorten(recipe: Path) -> None:
    text = recipe.read_text()
    for pattern, line in SHORT.items():
        text, count = re.subn(f"^{pattern}$" if pattern[0] == "t" else pattern, line, text, flags=re.MULTILINE)
        assert count == 1, pattern
    recipe.write_text(text)


def test_the_tutorial_goes_from_pictures_to_an_exported_matcher() -> None:
    jobs = [words[0] for words in COMMANDS]
    before, after = ["--serve", "--prepare", "--inspect", "--init", "--train", "--search"], ["--match", "--export"]
    assert jobs == [*before, "--report", "--confirm", "--evaluate", *after]
    assert all((ROOT / path).is_file() for path in ELSEWHERE.values())


def test_readme_has_the_same_commands_for_pictures_of_ones_own() -> None:
    readme = re.findall(r"^python run.py (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    same = [line.replace("birds", "toys").replace("--trials 4", "--trials 16") for line in readme]
    fewer = [shlex.split(line, comments=True) for line in same]
    assert [words[0] for words in fewer] == ["--prepare", "--init", "--search", "--match"]
    assert all(words in COMMANDS for words in fewer)


@pytest.mark.slow
def test_its_commands_lead_from_a_folder_of_pictures_to_a_table_and_matches(done: tuple[Path, dict[str, str]]) -> None:
    folder, said = done
    assert "data/toys: 24 images of 192 x 192" in said["--prepare"]
    assert "toys-inspect.html" in said["--inspect"] and (folder / "results/toys-inspect.html").is_file()
    assert re.search(r"search_spaces/toys.toml: \d+ epochs of \d+ steps, 16 trials", said["--init"])
    assert "best epoch" in said["--train"]
    assert "an epoch: 4 steps of 16 pairs; time of the search: about " in said["--search"]
    assert "8 trials" in said["--search"] and "Most important: " in said["--search"]
    assert "Most important: " in said["--report"] and (folder / "results/toys/report.html").is_file()
    assert re.search(r"^default +000 .* ± .* %", said["--confirm"], re.MULTILINE)
    assert re.search(r"^mean( +\d+\.\d%){4}$", said["--evaluate"], re.MULTILINE)
    assert re.search(r"^cross +\d\.\d{3}", said["--evaluate"], re.MULTILINE)
    assert "source " in said["--match"] and "confidence" in said["--match"]
    with Image.open(folder / "match.png") as picture:
        assert picture.size[0] > picture.size[1]


@pytest.mark.slow
def test_the_cells_of_the_notebook_run(
    done: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(done[0])
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in CELLS:
        exec(compile(cell, "docs/notebook.ipynb", "exec"), names)
    out = capsys.readouterr().out
    assert re.search(r"^threshold 0\.\d{3}; without a match: ", out, re.MULTILINE)
    assert "12 of 12 matched" in out
    assert re.search(r"^optim.lr +\d+% \[\d+%, \d+%\]", out, re.MULTILINE)
    untrained, trained = (float(value) for value in re.findall(r"trained: +(\d+\.\d)%$", out, re.MULTILINE))
    assert trained > untrained


def test_the_notebook_holds_no_outputs() -> None:
    cells = json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs")]

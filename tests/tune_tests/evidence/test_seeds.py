"""Trainings of several seeds: the means of their evaluations, what is kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.inference.evaluate import Evaluation
from nmt.pair_results import PairResults
from nmt.training.loop import train
from tune.cli.main import main
from tune.evidence import seeds as module
from tune.evidence.seeds import evaluate_seeds
from tune.spaces.read import load_space


@pytest.fixture(scope="module")
def trained(tiny_data: Path, space_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/: folder `published` with a training of seeds 0 and 1, each a level deeper."""
    results = tmp_path_factory.mktemp("seeds")
    toml = results / "tiny.toml"
    toml.write_text(space_text)
    for seed in (1, 0):
        config = load_space(toml, {"train.seed": seed, "train.epochs": 1}).base
        train(config, data=tiny_data, directory=results / "published" / str(seed) / "tiny-train")
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "results")


def folders(results: Path) -> list[Path]:
    return sorted((results / "published").glob("*/*"))


def test_the_table_has_the_mean_over_the_seeds_with_its_interval(results: Path, tiny_data: Path, capsys) -> None:
    arguments = ["--evaluate", "published", "--split", "test", "--results", str(results), "--data", str(tiny_data)]
    assert main([*arguments, "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reading the test split")
    found = json.loads(last)
    own = found["mean"]["NMT"]
    first, second = (found["seeds"][seed] for seed in "01")
    assert own["mean"] == pytest.approx((first + second) / 2) and own["count"] == 2
    assert own["interval"] == pytest.approx(12.7062 * abs(first - second) / 2, rel=1e-4)  # Student's t, 1 degree
    assert found["mean"]["chance"]["interval"] == pytest.approx(0)
    table = (results / "published" / "test.md").read_text()
    halves = found["interval_over_photographs"]
    assert f"| mean | {100 * own['mean']:.1f} ± {100 * halves['mean over categories']:.1f} | " in table
    assert f"the {found['photographs']} photographs" in table and "cup" in halves
    said = [line for line in lines if "the test split of" in line]
    assert len(said) == 1 and "published on 20" in said[0]
    assert [line.split(" | ")[0] for line in table.splitlines()[8:11]] == ["| cup", "| fish", "| mean"]
    pck, half = found["pck"]["NMT"]["per_point"]["0.1"], found["pck_interval_over_photographs"]["0.1"]
    assert pck["mean"] >= own["mean"] and pck["count"] == 2
    row = next(line for line in table.splitlines()[11:] if line.startswith("| NMT | "))
    assert row.split(" | ")[2] == f"{100 * pck['mean']:.1f} ± {100 * half:.1f}" and row.count("|") == 8
    assert table.rstrip("\n") in "\n".join(lines)


def test_a_second_call_reads_no_split_again_unless_something_has_changed(
    results: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"data": tiny_data, "split": "test"}
    first = evaluate_seeds(results / "published", folders(results), **place)
    read: list[Path] = []
    evaluate = module.evaluate_pairs

    def noted(path: Path, **given: object) -> tuple[Evaluation, PairResults]:
        read.append(path)
        return evaluate(path, **given)

    monkeypatch.setattr(module, "evaluate_pairs", noted)
    assert evaluate_seeds(results / "published", folders(results), **place).to_dict() == first.to_dict() and not read
    shutil.copy(folders(results)[0] / "best.pt", folders(results)[1] / "best.pt")  # other weights
    changed = evaluate_seeds(results / "published", folders(results), **place)
    assert read == [folders(results)[1] / "best.pt"]
    assert changed.evaluations[1].mean == first.evaluations[0].mean
    evaluate_seeds(results / "published", folders(results), **place, decode={"decode.epsilon": 0.2})
    assert len(read) == 3


@pytest.mark.parametrize(
    ("file", "change", "error"),
    [
        ("config.json", lambda text: text.replace('"seed": 1', '"seed": 0'), "has the seed of"),
        ("config.json", lambda text: text.replace('"lr": 0.0001', '"lr": 0.5'), r"in more than the seed \(optim.lr is"),
        ("metrics.jsonl", lambda _: "", "has 0 of 1 epochs; continue its --train with --resume first"),
    ],
)
def test_trainings_that_are_no_seeds_of_one_recipe_are_refused(
    results: Path, tiny_data: Path, file: str, change, error: str
) -> None:
    path = folders(results)[1] / file
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    with pytest.raises(UserError, match=error):
        evaluate_seeds(results / "published", folders(results), data=tiny_data, split="test")
    assert not list(results.glob("*/*.md"))

"""Ablation files, the table, and a real small one: Ray, trainings of a tiny head."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import run
from nmt.config import load_config, to_flat, with_overrides
from nmt.errors import UserError
from nmt.io.files import write_json
from nmt.recipes import RECIPES, read_recipe
from nmt.training.history import read_metrics
from tests.paths import ROOT
from tune.evidence.ablation import Ablated, load_ablated, load_ablation, render, shows_unmatched
from tune.evidence.photographs import Spread
from tune.evidence.repeated import Repeated, Run
from tune.spaces.read import load_space

VARIANTS = """
[variants]
"full" = {}
"no spline" = { "model.spline" = false }
"InfoNCE only" = { loss = { hyperspherical = 0, layer = 0 } }

[search]
seeds = 2
"""


@pytest.fixture
def text(space_text: str) -> str:
    """A tiny ablation: the base of the tiny search, and variants."""
    return space_text[: space_text.index("[space]")] + VARIANTS


@pytest.fixture
def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "parts.toml"
    path.write_text(text)
    return path


def test_variants_are_the_base_with_their_changes_and_the_first_is_the_reference(file: Path) -> None:
    ablation = load_ablation(str(file), {"optim.lr": 1e-2}, seeds=4, first_seed=7)
    assert ablation.name == "parts" and ablation.seeds == (7, 8, 9, 10)
    assert [v.name for v in ablation.variants] == ["full", "no spline", "InfoNCE only"]
    assert [v.slug for v in ablation.variants] == ["full", "no-spline", "infonce-only"]
    full, no_spline, plain = (to_flat(v.config) for v in ablation.variants)
    assert full == to_flat(ablation.base) and full["optim.lr"] == 1e-2
    assert {k for k in full if no_spline[k] != full[k]} == {"model.spline"}
    assert {k for k in full if plain[k] != full[k]} == {"loss.hyperspherical", "loss.layer"}


def test_seeds_of_the_file_count_from_the_base_seed(file: Path) -> None:
    assert load_ablation(str(file)).seeds == (0, 1)
    assert load_ablation(str(file), {"train.seed": 5}).seeds == (5, 6)


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*_ablation.toml")))
def test_ablation_of_the_project_is_sound_and_starts_from_its_recipe(name: str) -> None:
    assert read_recipe(name).is_ablation
    ablation = load_ablation(name)
    recipe = load_space({"willow_ablation": "willow_rotated"}.get(name, name.removesuffix("_ablation")))
    assert ablation.name == name and ablation.variants[0].config == ablation.base == recipe.base
    depths = {v.config.model.decoder_layers for v in ablation.variants}
    assert depths == set(range(1, 9)) and len(ablation.seeds) == 5
    configs = [v.config for v in ablation.variants]
    assert {c.loss.layer for c in configs} == {0, 0.1, 0.3, 1}
    if recipe.base.data.mode == "images":
        on = {(c.data.erasing > 0, c.data.cutmix > 0, c.data.mixup > 0) for c in configs}
        assert len(on) == 8  # all, none, each of the three off, and each of them alone
        assert {c.model.drop_path for c in configs} == {0, 0.2}
        assert {c.optim.backbone_lr_scale for c in configs} == {0, 0.03}


@pytest.mark.parametrize("path", sorted((ROOT / "tests/bench/evidence").glob("*.toml")), ids=lambda path: path.stem)
def test_ablations_of_the_results_page_are_sound_and_named_there(path: Path) -> None:
    ablation = load_ablation(str(path))
    assert len(ablation.seeds) == 5 and ablation.variants[0].config == ablation.base
    assert f"tests/bench/evidence/{path.name}" in (ROOT / "docs/results.md").read_text()


def test_without_val_there_is_nothing_to_compare_variants_by(file: Path) -> None:
    with pytest.raises(UserError, match=r'data\.train_split = "train\+val" leaves no val to compare trainings by'):
        load_ablation(str(file), {"data.train_split": "train+val"})


def test_search_is_no_ablation_and_the_other_way_round(file: Path, space_file: Path) -> None:
    assert read_recipe(file).is_ablation and not read_recipe(space_file).is_ablation
    with pytest.raises(UserError, match="an ablation"):
        load_space(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"model.spline" = false', '"model.splin" = false', r"\[variants\] 'no spline': .*did you mean 'model.spline'"),
        ('"model.spline" = false', '"model.spline" = 3', "model.spline must be true or false, but got 3"),
        ('{ "model.spline" = false }', "{ }", "'full' and 'no spline' are the same configuration; leave one out"),
        ('{ "model.spline" = false }', "false", "'no spline' must be a table"),
        ('"model.spline" = false', '"data.name" = "voc"', "data.name must be the same for all variants"),
        ('"model.spline" = false', '"train.seed" = 3', "train.seed must be the same for all variants"),
        ('"model.spline" = false', '"model.heads" = 3', "model.d_model must be a multiple of model.heads"),
        ('"InfoNCE only"', '"No-Spline"', "'no spline' and 'No-Spline' are too alike"),
        ('"InfoNCE only"', '"!"', "a name needs a letter or a digit"),
        ("seeds = 2", "seeds = 1", "seeds must be an integer at least 2, but got 1"),
        ("seeds = 2", "seed = 1", "unknown key 'seed'; did you mean 'seeds'"),
        ("seeds = 2", "seeds = 2\n[space]\n", r"\[space\] and \[variants\] in one file"),
        ("seeds = 2", "seeds = 2\n[resources]\nworkers = 2\n", r"\[resources\] workers = 2, but repeated trainings"),
        ("[variants]", "[variants]\n[varints]", "did you mean 'variants'"),
    ],
)
def test_mistake_in_the_file_is_named(file: Path, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        load_ablation(str(file))


def test_one_variant_is_not_enough(file: Path, text: str) -> None:
    file.write_text(text[: text.index('"no spline"')])
    with pytest.raises(UserError, match="at least two are needed"):
        load_ablation(str(file))


def repeated(name: str, accuracies: Sequence[float | None]) -> Repeated:
    """The trainings of one variant with seeds 0, 1, ..; None is a failed one."""
    return Repeated(
        name=name,
        runs=tuple(
            Run(
                seed=seed, directory=f"runs/{name}-s{seed}", accuracy=value, accuracy_fixed_decode=value, epoch=2,
                epochs=3, seconds=1.5, decode={}, reason="diverged" if value is None else None, test_accuracy=None,
            )
            for seed, value in enumerate(accuracies)
        ),
    )  # fmt: skip


def test_table_compares_with_the_first_variant_and_calls_noise_noise(tmp_path: Path) -> None:
    found = Ablated(
        name="toy",
        description="a toy",
        data="data/toy",
        epochs=3,
        seeds=(0, 1, 2),
        variants=(
            repeated("full", [0.70, 0.72, 0.71]),
            repeated("worse", [0.60, 0.62, 0.611]),
            repeated("alike", [0.72, 0.70, 0.71]),
            repeated("broken", [0.5, None, None]),
        ),
    )
    rows = {line.split("  ")[0].strip(): line for line in render(found, tmp_path).splitlines()}
    assert "71.0 ± 0.6 %" in rows["full"] and "[" not in rows["full"]
    assert "-10.0 [-11.1, -8.9]" in rows["worse"] and "noise" not in rows["worse"]
    assert "+0.0 [-5.0, +5.0]" in rows["alike"] and "noise" in rows["alike"]
    assert "50.0 %" in rows["broken"] and "[" not in rows["broken"]  # one pair has no interval
    assert "broken, seed 1 failed: diverged" in rows
    write_json(tmp_path / "ablation.json", found.to_dict())
    assert load_ablated(tmp_path / "ablation.json") == found


def test_intervals_over_photographs_are_shown_and_rows_without_them_are_marked(tmp_path: Path) -> None:
    variants = (
        repeated("full", [0.70, 0.72, 0.71]),
        repeated("worse", [0.60, 0.62, 0.611]),
        repeated("old", [0.60, 0.62, 0.611]),
        repeated("broken", [None, None, None]),
    )
    known = {
        "full": Spread(photographs=30, accuracy=0.01, difference=None),
        "worse": Spread(photographs=30, accuracy=0.01, difference=0.06),
    }
    found = Ablated(
        name="toy", description="", data="data/toy", epochs=3, seeds=(0, 1, 2), variants=variants, photographs=known
    )
    text = render(found, tmp_path)
    rows = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert "-10.0 [-22.2, +2.3]  " in rows["worse"] and "noise" in rows["worse"]  # 2.045 standard errors of 6 points
    assert "71.0 ± 1.2 %" in rows["full"] and "seeds alone" not in rows["full"] + rows["worse"] + rows["broken"]
    assert "-10.0 [-11.1, -8.9]" in rows["old"] and "seeds alone" in rows["old"]
    assert "over seeds and photographs" in text and "\nseeds alone: no results by pair" in text
    assert "Power: with 3 seeds and the noise measured here, a difference of 17." in text
    table = text.partition("\n\nNext:")[0].splitlines()
    assert max(len(line) for line in table if "seeds alone:" not in line) <= 110
    write_json(tmp_path / "ablation.json", found.to_dict())
    assert load_ablated(tmp_path / "ablation.json") == found


def test_f1_has_a_column_where_it_was_measured(tmp_path: Path) -> None:
    plain = [repeated("full", [0.70, 0.72]), repeated("late", [0.71, 0.71])]
    measured = [
        dataclasses.replace(
            each, runs=tuple(dataclasses.replace(r, f1=f1) for r, f1 in zip(each.runs, f1s, strict=True))
        )
        for each, f1s in zip(plain, ([0.5, 0.6], [0.7, None]), strict=True)
    ]
    tables = [
        render(
            Ablated(name="toy", description="", data="d", epochs=3, seeds=(0, 1), variants=tuple(variants)), tmp_path
        )
        for variants in (plain, measured)
    ]
    assert "val/f1" not in tables[0] and "val/f1" in tables[1]
    rows = {line.split("  ")[0].strip(): line for line in tables[1].splitlines()}
    assert "55.0 ± 5.0 %" in rows["full"] and "70.0 %" in rows["late"]


def test_f1_is_measured_where_a_variant_shows_keypoints_without_a_partner(file: Path) -> None:
    base = load_ablation(str(file)).base
    changes: list[dict[str, Any]] = [{}, {"data.pairs": "union"}, {"data.outliers": 0.1, "data.outliers_from": 0}]
    assert [shows_unmatched(with_overrides(base, each, source="test")) for each in changes] == [False, True, True]


def test_damaged_table_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text('{"seeds": []}')
    with pytest.raises(UserError, match="not the table of an ablation"):
        load_ablated(tmp_path / "ablation.json")


def test_ablation_takes_no_trials(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--search", str(file), "--trials", "3"]) == 2
    assert "--trials" in capsys.readouterr().err


@pytest.mark.slow
def test_ablation_from_the_command_line_resumes_and_is_reported_again(
    file: Path, tiny_data: Path, other_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    command = ["--search", str(file), "--data", str(tiny_data), "--results", str(results), "--set", "optim.lr=1e-2"]
    assert run.main([*command, "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert [v["name"] for v in found["variants"]] == ["full", "no spline", "InfoNCE only"]
    assert found["variants"][0]["difference"] is None and found["variants"][1]["difference"]["count"] == 2
    assert set(found["photographs"]) == {"full", "no spline", "InfoNCE only"}
    alone, both = (found["variants"][1][key] for key in ("difference", "difference_over_photographs"))
    assert both["mean"] == pytest.approx(alone["mean"]) and both["low"] < both["mean"] < both["high"]
    assert "with 95 % intervals over seeds and photographs" in out and "Power: with 2 seeds" in out
    assert "over seeds alone" not in out and "\nOther measures, means" in out
    assert all(len(found["measures"][name]["PCK@0.1"]) == 2 for name in found["photographs"])
    assert "union f1" in found["measures"]["full"]
    directory = results / "parts"
    assert json.loads((directory / "ablation.json").read_text()) == found
    config = load_config(directory / "runs" / "no-spline-s1" / "config.json")
    assert not config.model.spline and config.train.seed == 1
    assert "val/f1" not in out  # no variant shows keypoints without a partner

    assert run.main(["--report", "parts", "--results", str(results)]) == 0
    shown, page = capsys.readouterr().out.strip().rsplit("\n\npage: ", 1)
    assert shown in out and page == str(directory / "report.html")
    assert run.main(command) == 2
    assert "already holds an ablation; continue it with --resume" in capsys.readouterr().err
    stamp = (directory / "runs" / "full-s0" / "metrics.jsonl").stat().st_mtime_ns
    assert run.main([*command, "--resume", "--seeds", "3"]) == 0
    assert "3 trainings" in capsys.readouterr().out and load_ablated(directory / "ablation.json").seeds == (0, 1, 2)
    assert (directory / "runs" / "full-s0" / "metrics.jsonl").stat().st_mtime_ns == stamp
    assert len(read_metrics(directory / "runs" / "full-s2")) == 4
    assert run.main([*command[:-1], "optim.lr=1e-3", "--resume"]) == 2
    assert "holds another training (optim.lr is 0.01 in it and 0.001 now)" in capsys.readouterr().err
    assert run.main([*command, "--data", str(other_data), "--resume"]) == 2
    assert f"full-s0: trained on the data set {found_identity(directory)}" in capsys.readouterr().err
    table = (directory / "ablation.json").read_text()
    assert run.main([*command, "--data", str(other_data), "--resume", "--seed", "8"]) == 2  # no training of these yet
    assert f"parts: trained on the data set {found_identity(directory)}" in capsys.readouterr().err
    assert (directory / "ablation.json").read_text() == table


def found_identity(directory: Path) -> str:
    return str(json.loads((directory / "search.json").read_text())["data_set"]["identity"])

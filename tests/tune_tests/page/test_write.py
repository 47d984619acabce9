"""The page of --report: what it says of a search, an ablation and both stages, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.io.files import write_json
from tests.tune_tests.evidence.confirmations import repeated
from tests.tune_tests.page.made_searches import Page, write_search
from tests.tune_tests.results.summaries import record, summary
from tune.evidence.ablation import Ablated
from tune.page.write import write_report

MOST_BYTES = 5_000_000


def test_the_page_needs_no_network_and_no_other_file(page, searched):
    assert page.loads == [] and not {"link", "iframe", "base"} & set(page.tags)
    text = (searched[0] / "report.html").read_text()
    assert "http:" not in text and "https:" not in text and "url(//" not in text
    assert len(text) < MOST_BYTES


def test_every_part_is_there_in_the_order_of_reading(page):
    order = [
        "What was asked", "Is the winner really better?", "Leaderboard", "How it went", "Which key mattered",
        "Early stopping", "The winner at work", "Time", "Failures", "What to run next",
    ]  # fmt: skip
    places = [page.text.index(title) for title in order]
    assert places == sorted(places)
    plots = [
        "confirmation",
        "history",
        "curves",
        "importance",
        "parallel",
        "slices",
        "rungs",
        "categories",
        "decodings",
    ]
    assert page.ids == ["luck", "confirmed", *plots, "timeline"]


def test_each_plot_is_a_png_file_too(page, searched):
    names = {path.stem for path in (searched[0] / "report").glob("*.png")}
    assert {name for name in page.ids if name not in ("luck", "confirmed")} <= names
    assert sum(name.startswith("hard_pair_") for name in names) == page.tags.count("img") > 0
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (searched[0] / "report").glob("*.png"))


def test_the_numbers_are_those_of_the_search(page, searched):
    made = searched[1]
    best, default = made.best, made.default
    assert f"Trial {best.id} is the best, with {100 * best.accuracy:.1f} %" in page.text
    row = page.row(best.id, at=1, cells=12)
    assert row[:5] == ["best", best.id, "complete", "9", f"{100 * best.accuracy:.1f} %"]
    assert row[6] == "91.0 ± 2.5 %" and row[7].startswith("+10.0 [")  # t of two degrees of freedom: 4.303 / sqrt 3
    assert page.row("optim.lr")[2:] == [f"{default.searched['optim.lr']:.3g}", f"{best.searched['optim.lr']:.3g}"]
    assert page.row("024", at=1, cells=12)[2:5] == ["running", "1", "60.0 %"]
    failed = [t.id for t in made.trials if t.state == "FAIL"]
    assert failed and all(f"trial {trial}: the loss is no longer finite" in page.text for trial in failed)


def test_rungs_count_who_reached_them_and_who_went_on(page, searched):
    epochs = [t.epochs for t in searched[1].trials if t.epochs] + [1]  # the last one is running
    for rung, further in ((1, 3), (3, 9), (9, 10)):
        reached, went_on = sum(e >= rung for e in epochs), sum(e >= further for e in epochs)
        assert page.row(str(rung))[:4] == [str(rung), str(reached), str(went_on), str(reached - went_on)]


def test_a_name_of_a_stranger_is_text(page, searched):
    text = (searched[0] / "report.html").read_text()
    assert "<fish>" not in text and "&lt;fish&gt;" in text and "fish" not in page.tags


def test_a_report_changes_nothing_else_in_the_folder(tmp_path):
    write_search(tmp_path / "toy", trials=9, running=True)
    before = {p: p.read_bytes() for p in (tmp_path / "toy").rglob("*") if p.is_file()}
    write_report(tmp_path / "toy")
    after = {p: p.read_bytes() for p in (tmp_path / "toy").rglob("*") if p.is_file()}
    new = {p.relative_to(tmp_path / "toy").parts[0] for p in after.keys() - before.keys()}
    assert new == {"report.html", "report"} and all(after[p] == before[p] for p in before)


@pytest.mark.slow
def test_a_search_of_500_trials_is_one_page_of_a_few_megabytes(tmp_path):
    write_search(tmp_path / "toy", trials=500)
    page = write_report(tmp_path / "toy")
    assert page.stat().st_size < MOST_BYTES
    assert len([row for row in Page(page.read_text()).rows if len(row) == 10 and row[1].isdigit()]) == 500


def test_an_ablation_has_a_page_of_its_own(tmp_path):
    variants = repeated("the method", [0.7, 0.72, 0.71]), repeated("no <spline>", [0.6, 0.61, None])
    measures = {"no <spline>": {"PCK@0.1": [0.7, 0.7], "union f1": [0.5, 0.5], "cross ece": [0.25, 0.25]}}
    made = Ablated(
        name="parts", description="", data="data/tiny", epochs=4, seeds=(1, 2, 3), variants=tuple(variants),
        measures=measures,
    )  # fmt: skip
    (tmp_path / "parts").mkdir()
    write_json(tmp_path / "parts/ablation.json", made.to_dict())
    page = Page(write_report(tmp_path / "parts").read_text())
    assert page.ids == ["ablation"] and page.loads == []
    assert page.row("the method", at=1)[0] == "reference"
    assert page.row("no <spline>", at=1)[2:4] == ["60.5 ± 0.5 %", "-10.5 [-16.9, -4.1]"]
    assert "no <spline>, seed 3 failed: the loss is no longer finite" in page.text
    assert "no <spline> 70.0 ±0.0 50.0 ±0.0" in page.text and "no <spline> 25.0 ±0.0" in page.text


def test_a_search_at_two_fidelities_shows_both_stages_the_last_one_first(tmp_path):
    directory = tmp_path / "toy"
    write_search(directory / "features", trials=9, name="features")
    last = write_search(directory / "images", trials=9, name="images")
    write_json(directory / "search.json", {"fidelity": ["features", "images"]})
    dataclasses.replace(last, name="toy").save(directory)
    page = Page(write_report(directory).read_text())
    assert page.text.index("Stage 2 of 2, on images") < page.text.index("Stage 1 of 2, on features")
    assert page.ids.count("importance") == 2 and page.text.count("What to run next") == 1
    assert (directory / "report/features/history.png").is_file() and (directory / "report/images/rungs.png").is_file()


def test_a_search_with_one_trial_and_one_that_only_failed_have_pages(tmp_path):
    for name, trials in {
        "one": [record(0, 0.5)],
        "failed": [record(0, None, state="FAIL", reason="the loss is no longer finite")],
    }.items():
        made = summary(*trials)
        made.save(tmp_path / name)
        page = Page(write_report(tmp_path / name).read_text())
        assert ("Importance needs 8 trials" in page.text and "weights" in page.text) or name == "failed"
    assert "No trial has completed its epochs" in page.text and "trial 000: the loss is no longer finite" in page.text


def test_a_damaged_file_of_one_trial_is_named_on_the_page(tmp_path):
    write_search(tmp_path / "toy", trials=9)
    (tmp_path / "toy/trials/003/metrics.jsonl").write_text("{}\n")
    page = Page(write_report(tmp_path / "toy").read_text())
    assert "003/metrics.jsonl: not the metrics of a training" in page.text and "history" in page.ids


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    write_search(tmp_path / "toy", trials=9)
    (tmp_path / "toy/report").write_text("a file where the folder of the plots belongs")
    with pytest.raises(UserError) as refused:
        write_report(tmp_path / "toy")
    assert "cannot be written" in str(refused.value) and "the table is complete" in str(refused.value)
    assert not Path(tmp_path / "toy/report.html").exists()

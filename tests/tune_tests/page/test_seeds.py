"""The page of trainings over seeds: means with intervals by category, beside the baselines."""

from __future__ import annotations

from nmt.config import Config, DecodeConfig
from nmt.inference.evaluate import MODEL, Evaluation
from tests.tune_tests.page.made_searches import Page
from tune.evidence.seeds import Seeds
from tune.page.seeds import write_seeds


def evaluation(cup: float, fish: float) -> Evaluation:
    found = {MODEL: {"cup": cup, "<fish>": fish}, "chance": {"cup": 0.1, "<fish>": 0.2}}
    mean = {method: sum(values.values()) / 2 for method, values in found.items()}
    return Evaluation(split="test", pairs=40, decode=DecodeConfig(), per_category=found, mean=mean)


def test_means_and_intervals_are_those_of_the_seeds(tmp_path):
    evaluations = {1: evaluation(0.7, 0.5), 2: evaluation(0.72, 0.5), 3: evaluation(0.71, 0.5)}
    made = Seeds(name="mine", config=Config(), data="data/tiny", evaluations=evaluations)
    page = Page(write_seeds(made, tmp_path).read_text())
    assert page.row("cup") == ["cup", "71.0 ± 2.5", "10.0"]  # 4.303 times 1 over the root of 3
    assert page.row("<fish>")[1] == "50.0 ± 0.0" and page.row("mean")[1] == "60.5 ± 1.2"
    assert "seed 2 61.0 %" in page.text and "The test split was read" in page.text
    assert page.ids == ["categories"] and page.loads == [] and (tmp_path / "report/categories.png").is_file()

"""A search with weights, a confirmation and a running trial, and its page, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt import checkpoint
from nmt.config import Config, DecodeConfig, to_dict, with_overrides
from nmt.data.store.features import FeatureTable
from nmt.data.store.objects import ObjectStore
from nmt.io.files import write_json
from nmt.model.build import build_matcher
from tests.tune_tests.evidence.confirmations import confirmed, repeated
from tests.tune_tests.page.made_searches import Page, write_search
from tune.page.figures import Gallery
from tune.page.write import write_report
from tune.results.summary import Summary

HEAD = {
    "data.name": "tiny", "data.mode": "features", "data.image_size": 32, "data.eval_pairs": 20,
    "model.backbone": "tiny", "model.weights": "random", "model.d_model": 16, "model.heads": 2,
    "model.decoder_layers": 1, "model.mlp_multiplier": 2.0,
}  # fmt: skip


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "plots")


@pytest.fixture(scope="session")
def weights(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.pt of a head that was not trained, for the features of data/tiny."""
    config = with_overrides(Config(), HEAD, source="test")
    features = FeatureTable.open(tiny_data, config.model, 32)
    matcher = build_matcher(config.model, image_size=32, features=features)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    categories = ObjectStore.open(tiny_data).info.categories
    content = {"model": matcher.state_dict(), "config": to_dict(config), "categories": categories, "epoch": 1}
    checkpoint.save(path, content | {"metrics": {}})
    return path


@pytest.fixture(scope="session")
def searched(weights: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """results/toy of a search that runs: 24 trials, one more that trains, its best confirmed with three seeds."""
    directory = tmp_path_factory.mktemp("results") / "toy"
    made = write_search(directory, running=True)
    assert made.best is not None
    made = _with_weights(made, weights, tiny_data)
    made.save(directory)
    default, best = repeated("000", [0.80, 0.81, 0.82]), repeated(made.best.id, [0.90, 0.92, 0.91])
    (directory / "confirm").mkdir()
    write_json(directory / "confirm/confirm.json", confirmed(default, best).to_dict())
    return directory, made


def _with_weights(made: Summary, weights: Path, data: Path) -> Summary:
    import dataclasses

    trials = [dataclasses.replace(t, checkpoint=str(weights)) if t is made.best else t for t in made.trials]
    return dataclasses.replace(made, data=str(data), trials=tuple(trials))


@pytest.fixture(scope="session")
def page(searched: tuple[Path, Summary]) -> Page:
    return Page(write_report(searched[0]).read_text())


@pytest.fixture
def usual_grid() -> list[DecodeConfig]:
    return [DecodeConfig(sinkhorn_iterations=k, epsilon=e) for k in (0, 10) for e in (0.05, 0.2)]

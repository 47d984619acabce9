"""The space of a search, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nmt.config import DecodeConfig, to_dict, with_overrides
from nmt.errors import UserError
from nmt.io.files import write_json
from tune.results.definition import space_of, trial_decode_grid
from tune.spaces.read import load_space


@pytest.fixture
def directory(space_file: Path, tmp_path: Path) -> Path:
    """A search that ran with another epoch count than its file has."""
    folder = tmp_path / "results" / "tiny"
    (folder / "trials/003").mkdir(parents=True)
    (folder / "search.toml").write_text(space_file.read_text())
    write_json(folder / "search.json", load_space(space_file, {"train.epochs": 9}).to_dict())
    return folder


def test_the_base_is_that_of_the_run(directory: Path) -> None:
    assert space_of(directory).base.train.epochs == 9
    (directory / "search.json").write_text(json.dumps({"base": []}))
    with pytest.raises(UserError, match="search.json: not the definition of a search"):
        space_of(directory)


def test_a_trial_sweeps_the_grid_of_its_search_and_other_files_none(directory: Path, tmp_path: Path) -> None:
    base = space_of(directory).base
    grid = trial_decode_grid(directory / "trials/003/config.json", base)
    assert {decoding.epsilon for decoding in grid} == {0.01, 0.035, 0.2}
    assert trial_decode_grid(tmp_path / "config.json", base) == ()


@pytest.fixture
def search(tmp_path: Path, space_text: str) -> Path:
    """The folder of a search that ran with --set optim.lr=0.01."""
    directory = tmp_path / "results" / "tiny"
    directory.mkdir(parents=True)
    (directory / "search.toml").write_text(space_text)
    space = load_space(directory / "search.toml", {"optim.lr": 0.01, "decode.sinkhorn_iterations": 7})
    write_json(directory / "search.json", space.to_dict())
    return directory


def test_space_of_a_search_has_the_base_that_it_ran_with(search: Path) -> None:
    space = space_of(search)
    assert space.base.optim.lr == 0.01 and space.base.decode.sinkhorn_iterations == 7
    assert space.default_params["optim.lr"] == 0.01
    assert load_space(search / "search.toml").base.optim.lr == 1e-4  # what the file alone gives
    assert [p.key for p in space.parameters] == ["optim.lr", "loss.layer_weighting"]


@pytest.mark.parametrize("content", [None, "{", "{}", "[]", '{"base": 3}', b"\xff"])
def test_damaged_definition_is_a_users_error_that_names_the_file(search: Path, content: str | bytes | None) -> None:
    path = search / "search.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="search.json: not the definition of a search") as refused:
        space_of(search)
    assert "\n" not in str(refused.value)


def test_unknown_key_in_the_recorded_base_is_named(search: Path) -> None:
    (search / "search.json").write_text('{"base": {"optim": {"lrr": 1}}}')
    with pytest.raises(UserError, match="search.json.*optim.lrr.*did you mean 'optim.lr'"):
        space_of(search)


def test_a_trial_tried_the_swept_decodings_and_its_own_other_decode_values(
    search: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_overrides(space_of(search).base, {"decode.sinkhorn_iterations": 9}, source="test")
    path = search / "trials" / "003" / "config.json"
    path.parent.mkdir(parents=True)
    write_json(path, to_dict(config))
    expected = {DecodeConfig(epsilon=epsilon, sinkhorn_iterations=9) for epsilon in (0.01, 0.035, 0.2)}
    grid = trial_decode_grid(path, config)
    assert set(grid) == expected and len(grid) == 3
    monkeypatch.chdir(path.parent)
    assert trial_decode_grid(Path("config.json"), config) == grid


def test_a_configuration_outside_the_trials_of_a_search_has_no_grid(search: Path) -> None:
    config = space_of(search).base
    for place in ("best.json", "confirm/runs/001-s1/config.json", "trials/003/config.json"):
        (search / place).parent.mkdir(parents=True, exist_ok=True)
        write_json(search / place, to_dict(config))
    assert trial_decode_grid(search / "trials/003/config.json", config)
    assert trial_decode_grid(search / "best.json", config) == ()
    assert trial_decode_grid(search / "confirm/runs/001-s1/config.json", config) == ()
    (search / "search.toml").unlink()
    assert trial_decode_grid(search / "trials/003/config.json", config) == ()

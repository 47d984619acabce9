"""Where a search or training of a name is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tune.cli import evaluate
from tune.cli.job import parse
from tune.cli.runs import find_checkpoint, find_run, stored, trainings_below


def arguments(name: str, *more: str):
    return parse(evaluate.JOB, ["--evaluate", name, *more])


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="results/pines: no search or training there; there are none yet$"):
        find_run(arguments("pines"))
    (tmp_path / "elsewhere" / "willow-train").mkdir(parents=True)
    with pytest.raises(UserError, match="did you mean 'willow-train'?"):
        find_run(arguments("willow-trains", "--results", "elsewhere"))
    with pytest.raises(UserError, match="did you mean 'willow-train'?"):
        find_checkpoint(arguments("willow", "--results", "elsewhere"))
    assert find_run(arguments("willow-train", "--results", "elsewhere")) == Path("elsewhere/willow-train")


def test_a_result_that_is_not_made_yet_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"none yet; make one with: python run.py --search willow$"):
        find_run(arguments("willow"))
    with pytest.raises(UserError, match=r"with: python run.py --search willow, or python run.py --train willow$"):
        find_checkpoint(arguments("willow"))
    (tmp_path / "data" / "birds").mkdir(parents=True)
    with pytest.raises(UserError, match=r"none yet; make one with: python run.py --train birds$"):
        find_checkpoint(arguments("birds"))


def test_a_training_is_no_search(tmp_path):
    (tmp_path / "results" / "willow-train").mkdir(parents=True)
    (tmp_path / "results" / "willow-train" / "best.pt").write_bytes(b"")
    with pytest.raises(UserError, match="holds a training, not a search; .* run.py --evaluate willow-train"):
        find_run(arguments("willow-train"))
    with pytest.raises(UserError, match="none yet; make one with: python run.py --search willow$"):
        find_run(arguments("willow"))


def test_the_weights_of_a_training_are_its_best(tmp_path):
    (tmp_path / "results" / "willow-train").mkdir(parents=True)
    with pytest.raises(UserError, match="no search has run there"):
        find_checkpoint(arguments("willow-train"))
    (tmp_path / "results" / "willow-train" / "best.pt").write_bytes(b"")
    assert find_checkpoint(arguments("willow-train")) == Path("results/willow-train/best.pt")
    assert find_checkpoint(arguments("results/willow-train/best.pt")) == Path("results/willow-train/best.pt")


def test_a_run_has_its_own_place_at_the_storage(tmp_path):
    assert stored(arguments("willow"), Path("results/willow")) is None
    home = stored(arguments("willow", "--storage", "/nfs/results/"), Path("results/willow"))
    assert home is not None
    assert (home.address, home.directory) == ("/nfs/results/willow", tmp_path / "results" / "willow")


def test_a_folder_of_trainings_holds_them_one_or_two_levels_deep_and_no_run_of_its_own(tmp_path):
    for folder in ("1/voc-train", "0/voc-train", "other", "2/deeper/than-that"):
        training = tmp_path / "results" / "published" / folder
        training.mkdir(parents=True)
        (training / "config.json").touch()
    below = [str(path.relative_to("results/published")) for path in trainings_below(arguments("published"))]
    assert below == ["0/voc-train", "1/voc-train", "other"]
    assert not trainings_below(arguments("nowhere"))
    for own in ("best.pt", "search.json", "summary.json", "trials"):
        (tmp_path / "results" / "published" / own).touch()
        assert not trainings_below(arguments("published")), own
        (tmp_path / "results" / "published" / own).unlink()

"""What Ray Tune is given when it asks for a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from nmt.config import from_dict, to_dict
from nmt.training.packable import shape
from tune.driver.ray_searcher import StudySearcher
from tune.jobs.protocol import members
from tune.spaces.read import load_space
from tune.study.study import SearchStudy


class Asked:
    """A searcher on its study, and the two conditions it asks for."""

    def __init__(self, space_file: Path, *, more: str = "", **replaced: str) -> None:
        text = space_file.read_text() + more
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        space_file.write_text(text)
        self.study = SearchStudy(space_file.with_name("study.db"), load_space(space_file))
        self.late = self.stopping = False
        self.searcher = StudySearcher(
            self.study, metric="val/accuracy", out_of_time=lambda: self.late, stopping=lambda: self.stopping
        )

    def suggest(self) -> Any:
        return self.searcher.suggest("any name")

    def train(self, job: dict[str, Any]) -> None:
        """Train every trial of the job to its last epoch, as the recorder reports it."""
        for member in members(job):
            number = member["number"]
            for epoch in range(1, member["until"] + 1):
                self.study.report(number, epoch, 0.1 * epoch - 0.01 * number)
            if member["until"] == self.study.ladder.epochs:
                self.study.finish(number, TrialState.COMPLETE, {})
            else:
                self.study.end_job(number)


def test_a_job_is_the_number_the_configuration_and_the_last_epoch(space_file: Path) -> None:
    asked = Asked(space_file)
    job = asked.suggest()
    assert job == {"number": 0, "configuration": to_dict(asked.study.space.base), "until": 4}
    following = asked.suggest()
    assert (following["number"], following["until"]) == (1, 1)
    assert following["configuration"] == to_dict(asked.study.configuration(1))


def test_a_search_ends_only_once_every_job_was_run(space_file: Path) -> None:
    asked = Asked(space_file, **{"trials = 5": 'trials = 2\nscheduler = "fifo"'})
    first, second = asked.suggest(), asked.suggest()
    assert asked.suggest() is None and not asked.searcher.finished  # both still run
    asked.train(first)
    assert asked.suggest() is None and not asked.searcher.finished
    asked.train(second)
    assert asked.suggest() == StudySearcher.FINISHED and asked.searcher.finished


def test_no_job_starts_after_a_wish_to_stop_and_the_search_is_not_finished(space_file: Path) -> None:
    asked = Asked(space_file)
    asked.train(asked.suggest())
    asked.stopping = True
    assert asked.suggest() == StudySearcher.FINISHED and not asked.searcher.finished
    assert len(asked.study.trials()) == 1


def test_a_search_out_of_time_waits_for_its_running_job_and_is_then_finished(space_file: Path) -> None:
    asked = Asked(space_file)
    job = asked.suggest()
    asked.late = True
    assert asked.suggest() is None and not asked.searcher.finished
    asked.train(job)
    assert asked.suggest() == StudySearcher.FINISHED and asked.searcher.finished
    assert len(asked.study.trials()) == 1


@pytest.mark.parametrize("error", [True, False])
def test_the_end_that_ray_reports_leaves_the_study_to_the_recorder(space_file: Path, error: bool) -> None:
    asked = Asked(space_file)
    asked.suggest()
    asked.searcher.on_trial_complete("any name", {"val/accuracy": 0.9, "epoch": 4}, error=error)
    (trial,) = asked.study.trials()
    assert trial.state == TrialState.RUNNING and trial.intermediate_values == {}


def test_jobs_of_one_shape_are_packed_into_one(space_file: Path) -> None:
    layers = '"model.decoder_layers" = { low = 1, high = 3 }\n[search]'
    replaced = {"[search]": layers, "trials = 5": 'trials = 10\nsampler = "random"'}
    asked = Asked(space_file, more="\n[resources]\npacked = 3\n", **replaced)
    sizes, shapes = [], set()
    while isinstance(job := asked.suggest(), dict):
        pack = members(job)
        configurations = [from_dict(member["configuration"], source="pack") for member in pack]
        assert {key: job[key] for key in ("number", "configuration", "until")} == pack[0]
        assert len({shape(config) for config in configurations}) == 1
        assert len({member["until"] for member in pack}) == 1
        assert len({member["number"] for member in pack}) == len(pack)
        sizes.append(len(pack))
        shapes.add(shape(configurations[0]))
        asked.train(job)
    assert job == StudySearcher.FINISHED and asked.searcher.finished
    assert max(sizes) == 3 and len(shapes) > 1 and len(asked.study.trials()) == 10

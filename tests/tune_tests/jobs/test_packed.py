"""Packs of a search: what trains together, and that it is what each trial would be alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nmt.config import from_dict
from nmt.errors import UserError
from nmt.training.history import read_metrics
from nmt.training.loop import train
from nmt.training.packable import shape
from tune.driver import ray_session as session
from tune.driver.search import run_search
from tune.spaces.read import load_space
from tune.study.halving import Pause
from tune.study.study import Job, SearchStudy

SEARCHED = """[space]
"model.decoder_layers" = { low = 1, high = 3 }
"loss.temperature" = { low = 0.05, high = 0.5, log = true }"""


@pytest.fixture
def pack_file(tmp_path: Path, space_text: str) -> Callable[..., Path]:
    """pack_file(old=new): the tiny search with a parameter that decides the shape, packed by 4, and so changed."""

    def write(**changes: str) -> Path:
        text = space_text.replace("[space]", SEARCHED) + "\n[resources]\npacked = 4\n"
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return path

    return write


def drive(study: SearchStudy, size: int) -> list[list[Job]]:
    """Every pack of a search, one under way at a time; a trial's accuracy is a function of its values."""
    packs = []
    while not isinstance(pack := study.next_pack(size), Pause):
        packs.append(pack)
        for job in pack:
            start = max(study.trial(job.number).intermediate_values, default=0)
            for epoch in range(start + 1, job.until + 1):
                study.report(job.number, epoch, -abs(job.config.optim.lr - 1e-3) + 0.01 * epoch)
            if job.until == study.ladder.epochs:
                study.finish(job.number, TrialState.COMPLETE, {})
            else:
                study.end_job(job.number)
    return packs


@pytest.mark.parametrize(("sampler", "scheduler"), [("tpe", "asha"), ("qmc", "fifo"), ("random", "hyperband")])
def test_packs_hold_jobs_of_one_shape_over_the_same_epochs(pack_file, tmp_path, sampler, scheduler):
    space = load_space(pack_file(**{"trials = 5": f'trials = 10\nsampler = "{sampler}"\nscheduler = "{scheduler}"'}))
    study = SearchStudy(tmp_path / "study.db", space)
    packs = drive(study, 4)
    assert max(map(len, packs)) == (2 if scheduler == "hyperband" else 4)  # whose brackets end at other epochs
    trained: dict[int, int] = {}
    for pack in packs:
        assert len({shape(job.config) for job in pack}) == 1
        assert len({(trained.get(job.number, 0), job.until) for job in pack}) == 1
        trained |= {job.number: job.until for job in pack}
    assert sorted(trained) == list(range(10))
    assert packs[0][0].number == 0 and trained[0] == 4
    assert len({job.config.model.decoder_layers for pack in packs for job in pack}) > 1
    assert len({job.config.optim.lr for pack in packs for job in pack}) == 10


def test_a_pack_of_one_is_the_search_without_packs(pack_file, tmp_path):
    space = load_space(pack_file(**{"trials = 5": "trials = 9"}))
    packs = drive(SearchStudy(tmp_path / "packs.db", space), 1)
    single = SearchStudy(tmp_path / "single.db", space)
    for (job,) in packs:
        assert single.next_job() == job
        study_values = range(max(single.trial(job.number).intermediate_values, default=0) + 1, job.until + 1)
        for epoch in study_values:
            single.report(job.number, epoch, -abs(job.config.optim.lr - 1e-3) + 0.01 * epoch)
        single.finish(job.number, TrialState.COMPLETE, {}) if job.until == 4 else single.end_job(job.number)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("packed = 4", "packed = 4\nworkers = 2", "trains in one process: workers must be 1, but is 2"),
        ("trials = 5", 'trials = 5\nscheduler = "asha_stop"', 'needs scheduler "asha", "hyperband" or "fifo"'),
        (
            "trials = 5",
            'trials = 5\nscheduler = "fifo"\nobjectives = ["val/accuracy", "inference_seconds"]',
            "measures no trial's own inference_seconds",
        ),
        (
            "trials = 5",
            'trials = 5\nscheduler = "fifo"\nobjectives = ["val/accuracy", "val/f1"]',
            "measures no trial's own val/f1",
        ),
        (
            "[search]",
            '"model.mlp_multiplier" = { values = [1, 2], when = { "loss.layer_weighting" = "linear" } }\n[search]',
            "packed trials share model.mlp_multiplier, but its condition reads loss.layer_weighting",
        ),
        ('mode = "features"', 'mode = "images"', "packed trials need data.mode = 'features', but it is 'images'"),
    ],
)
def test_what_cannot_be_packed_is_said_at_once(pack_file, old, new, message):
    with pytest.raises(UserError, match=message):
        load_space(pack_file(**{old: new}))


@pytest.mark.long
def test_a_packed_search_gives_each_trial_what_it_would_be_alone(pack_file, tiny_data, tmp_path, monkeypatch):
    """With Ray; a temperature at which the loss is not finite fails its trial, and no other of its pack."""
    path = pack_file(
        **{
            "{ low = 0.05, high = 0.5, log = true }": "{ values = [0.1, 1e-44] }",
            "trials = 5": 'trials = 10\nsampler = "random"',
        }
    )
    space, packs, next_pack = load_space(path), [], SearchStudy.next_pack

    def noted(self: SearchStudy, size: int, **options: bool) -> list[Job] | Pause:
        packs.append(next_pack(self, size, **options))
        return packs[-1]

    monkeypatch.setattr(SearchStudy, "next_pack", noted)
    with session.ray_session():
        summary = run_search(space, results=tmp_path / "results", data=tiny_data)
    directory = tmp_path / "results" / "tiny"
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    assert {t.number: t.state.name for t in study.trials} == {int(t.id): t.state for t in summary.trials}
    assert len(summary.trials) == 10
    assert {"COMPLETE", "PRUNED", "FAIL"} == {t.state for t in summary.trials}
    assert max(len(pack) for pack in packs if not isinstance(pack, Pause)) == 4
    for trial in summary.trials:
        config = from_dict(trial.configuration, source=trial.id)
        assert (trial.state == "FAIL") == (config.loss.temperature < 1e-9)
        assert list((directory / "trials" / trial.id).glob("*tfevents*"))
        if trial.epochs:
            alone = tmp_path / "alone" / trial.id
            train(config, data=tiny_data, directory=alone, until=trial.epochs, decode_grid=space.decode_grid())
            expected = [m["val/accuracy"] for m in read_metrics(alone)]
            assert [m["val/accuracy"] for m in read_metrics(directory / "trials" / trial.id)] == pytest.approx(expected)

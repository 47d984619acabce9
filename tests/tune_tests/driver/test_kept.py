"""What is deleted of trials that have ended, and that no crash makes one of them train again."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import pytest
import ray
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from nmt.io.files import write_json
from nmt.training.history import read_metrics
from tests.tune_tests.driver.test_recorder import Search
from tests.tune_tests.spaces.edits import edited
from tune.driver import kept
from tune.driver.kept import settle_left
from tune.driver.search import find_home, run_search
from tune.driver.trial_folders import TrialFolders
from tune.driver.watchdog import Watchdog
from tune.results.ended import read_ended
from tune.results.storage import Storage
from tune.results.summary import load_summary
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.study import Job, SearchStudy

WEIGHTS = {"checkpoint.pt", "checkpoint.previous.pt", "best.pt"}


@pytest.fixture
def space(space_file: Path) -> Space:
    return load_space(space_file)


@pytest.fixture(params=[False, True], ids=["shared", "storage"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Storage | None:
    return Storage(str(tmp_path / "home"), tmp_path / "run") if request.param else None


def opened(directory: Path, space: Space, home: Storage | None = None) -> Search:
    directory.mkdir(exist_ok=True)
    return Search(directory, space, home=home)


def trained(search: Search, number: int, epochs: int, home: Storage | None) -> None:
    """What the job of a trial leaves in its folder, and at the storage."""
    folder = search.directory / f"trials/{number:03d}"
    search.train(number, epochs)
    for name in WEIGHTS:
        (folder / name).write_bytes(name.encode())
    if home is not None:
        home.put(f"trials/{number:03d}")


def there(directory: Path, number: int, home: Storage | None) -> set[str]:
    """The weights of a trial where the search lives."""
    if home is None:
        return {path.name for path in (directory / f"trials/{number:03d}").glob("*.pt")}
    return {name for folder, name in home.stored("trials") if folder == f"trials/{number:03d}"}


def end(search: Search, home: Storage | None, epochs: int = 4) -> int:
    """Train one trial to an end."""
    (job,) = search.begin()
    number = job.config["number"]
    trained(search, number, epochs, home)
    search.event(job)
    search.ended(job)
    return int(number)


def test_an_ended_trial_keeps_its_best_weights_alone(space: Space, tmp_path: Path, home: Storage | None) -> None:
    search = opened(tmp_path / "run", space, home=home)
    number = end(search, home)
    assert search.study.trial(number).state == TrialState.COMPLETE
    assert there(search.directory, number, home) == {"best.pt"}
    ended = read_ended(search.directory / "trials/000")
    assert ended is not None and ended.state == "COMPLETE" and len(ended.history) == 4
    here = {path.name for path in (search.directory / "trials/000").iterdir()}
    assert {"config.json", "metrics.jsonl", "ended.json"} < here
    assert not here & WEIGHTS if home else here & WEIGHTS == {"best.pt"}


def test_a_search_may_keep_everything(space_file: Path, tmp_path: Path, home: Storage | None) -> None:
    space = load_space(edited(space_file, "[search]", '[search]\nkeep = "all"'))
    search = opened(tmp_path / "run", space, home=home)
    number = end(search, home)
    assert there(search.directory, number, home) == WEIGHTS and read_ended(search.directory / "trials/000") is None


def test_a_paused_trial_keeps_everything_until_the_search_is_over(
    space: Space, tmp_path: Path, home: Storage | None
) -> None:
    search = opened(tmp_path / "run", space, home=home)
    end(search, home)
    number = end(search, home, epochs=1)
    assert search.study.trial(number).state == TrialState.WAITING
    assert there(search.directory, number, home) == WEIGHTS
    search.recorder.end_waiting()
    assert search.study.trial(number).state == TrialState.PRUNED
    assert there(search.directory, number, home) == {"best.pt"}


def test_what_has_ended_is_never_promoted_by_a_larger_budget(space: Space, tmp_path: Path) -> None:
    search = opened(tmp_path / "run", space)
    for epochs in (4, 1, 1):
        end(search, None, epochs)
    search.recorder.end_waiting()
    more = opened(tmp_path / "run", space.with_budget(trials=40))
    for _ in range(40):
        job = more.study.next_job()
        assert isinstance(job, Job) and job.number > 2
        trained(more, job.number, job.until, None)
        more.recorder.sync(job.number)
        more.study.end_job(job.number)
        if job.until == 4:
            break
    else:
        pytest.fail("no new trial was promoted to the full budget")


@pytest.mark.parametrize("step", ["write_ended", "put", "remove", "unlink"])
@pytest.mark.parametrize("epochs", [4, 1], ids=["complete", "pruned"])
def test_a_crash_at_any_moment_of_the_deletion_loses_nothing(
    space: Space, tmp_path: Path, home: Storage | None, monkeypatch: pytest.MonkeyPatch, step: str, epochs: int
) -> None:
    class CrashError(BaseException):
        pass

    def crash(*arguments: object, **named: object) -> None:
        raise CrashError

    search = opened(tmp_path / "run", space, home=home)
    if epochs == 1:
        end(search, home)
    with monkeypatch.context() as patch:
        if step == "put":
            put = TrialFolders.put

            def put_or_crash(folders: TrialFolders, folder: str = "", pattern: str = "*") -> None:
                (crash if pattern == "ended.json" else put)(folders, folder, pattern)

            patch.setattr(TrialFolders, "put", put_or_crash)
        elif step == "unlink":
            unlink = Path.unlink

            def unlink_or_crash(path: Path, missing_ok: bool = False) -> None:
                (crash if path.name == "checkpoint.pt" else unlink)(path, missing_ok=missing_ok)

            patch.setattr(Path, "unlink", unlink_or_crash)
        else:
            patch.setattr(kept if step == "write_ended" else Storage, step, crash)
        with contextlib.suppress(CrashError):
            number = end(search, home, epochs)
        with contextlib.suppress(CrashError):
            search.recorder.end_waiting()
    number = 0 if epochs == 4 else 1
    state = search.study.trial(number).state
    assert state == (TrialState.COMPLETE if epochs == 4 else TrialState.PRUNED)
    again = opened(tmp_path / "run", space, home=home)
    settle_left(again.study, again.recorder.folders)
    assert there(again.directory, number, home) == {"best.pt"}
    assert again.study.trial(number).state == state
    assert len(again.recorder.sync(number)) == epochs


@pytest.mark.parametrize("epochs", [4, 1], ids=["complete", "pruned"])
def test_an_older_copy_of_the_study_learns_the_end_from_the_folder(space: Space, tmp_path: Path, epochs: int) -> None:
    search = opened(tmp_path / "run", space)
    for count in (4, 1):
        end(search, None, count)
    (job,) = search.begin()  # in the middle of training when the copy was made
    shutil.copyfile(search.directory / "study.db", tmp_path / "older.db")
    trained(search, 2, epochs, None)
    search.event(job)
    search.ended(job)
    search.recorder.end_waiting()
    state = search.study.trial(2).state
    assert state == (TrialState.COMPLETE if epochs == 4 else TrialState.PRUNED)
    shutil.copyfile(tmp_path / "older.db", search.directory / "study.db")
    older = opened(tmp_path / "run", space)
    assert [older.study.trial(n).state for n in (1, 2)] == [TrialState.WAITING] * 2
    older.recorder.sync_unfinished()
    assert [older.study.trial(n).state for n in (1, 2)] == [TrialState.PRUNED, state]
    following = older.study.next_job()
    assert isinstance(following, Job) and following.number == 3


def test_an_end_that_an_older_copy_learns_has_its_last_epoch_though_the_best_weights_are_lost(
    space: Space, tmp_path: Path
) -> None:
    search = opened(tmp_path / "run", space)
    (job,) = search.begin()
    shutil.copyfile(search.directory / "study.db", tmp_path / "older.db")
    trained(search, 0, 4, None)
    search.event(job)
    before = search.study.trial(0)
    shutil.copyfile(tmp_path / "older.db", search.directory / "study.db")
    (search.directory / "trials/000/best.pt").unlink()
    older = opened(tmp_path / "run", space)
    older.recorder.sync_unfinished()
    found = older.study.trial(0)
    assert (found.state, found.values) == (TrialState.COMPLETE, before.values)
    assert found.intermediate_values == before.intermediate_values and len(before.intermediate_values) == 4


def test_failures_of_an_earlier_run_do_not_stop_the_one_that_learns_of_them(space: Space, tmp_path: Path) -> None:
    count = space.search.max_failures_in_a_row
    search = opened(tmp_path / "run", space.with_budget(trials=count + 1))
    jobs = search.begin(count)
    shutil.copyfile(search.directory / "study.db", tmp_path / "older.db")
    search.recorder.health = Watchdog(space.search, stop=lambda reason: None)
    for job in jobs:
        search.event(job, failure="the loss is no longer finite")
        search.ended(job)
    shutil.copyfile(tmp_path / "older.db", search.directory / "study.db")
    older = opened(tmp_path / "run", search.study.space)  # its watchdog fails the test when it stops the search
    older.recorder.sync_unfinished()
    assert {trial.state for trial in older.study.trials()} == {TrialState.FAIL}


@pytest.mark.parametrize("same", [True, False], ids=["the same search", "an earlier one of this name"])
def test_an_end_since_the_last_copy_at_the_storage_is_not_forgotten_by_a_resume_on_the_same_machine(
    space_file: Path, tmp_path: Path, same: bool
) -> None:
    """A stopped trial would train on, where no record of its end is kept."""
    space = load_space(edited(space_file, "[search]", '[search]\nkeep = "all"\nscheduler = "asha_stop"'))
    home = Storage(str(tmp_path / "nfs/tiny"), tmp_path / "tiny")
    search = opened(home.directory, space, home)
    write_json(home.directory / "search.json", {})
    _, trial = search.begin(2)
    search.recorder.save()
    trained(search, 1, 1, home)
    search.event(trial)
    search.ended(trial)
    if not same:
        study = tmp_path / "other/study.db"
        opened(study.parent, space).begin()
        Storage(home.address, study.parent).put(pattern="study.db")
    assert find_home(str(tmp_path / "nfs"), home.directory, resume=True) is not None
    states = [trial.state for trial in SearchStudy(home.directory / "study.db", space).trials()]
    assert states == ([TrialState.WAITING, TrialState.PRUNED] if same else [TrialState.WAITING])


@pytest.mark.slow
def test_every_other_node_drops_its_copy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes on one machine: what this process is kept from removing, the other node removes."""
    for number in (3, 4):
        (tmp_path / f"trials/{number:03d}").mkdir(parents=True)
        for name in (*WEIGHTS, "metrics.jsonl"):
            (tmp_path / f"trials/{number:03d}" / name).write_bytes(b"")
    monkeypatch.setattr(kept, "drop_weights", lambda directory: None)
    # Before the tests that share a local Ray: a process has one Ray at a time.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        kept._drop_copies([tmp_path / "trials/003", tmp_path / "trials/004"])
        deadline = time.monotonic() + 300
        while left := sorted(tmp_path.rglob("*.pt")):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(list(tmp_path.rglob("metrics.jsonl"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True], ids=["shared", "storage"])
def test_a_search_that_goes_on_with_more_trials_trains_none_of_the_ended_again(
    ray_running: None, space: Space, tiny_data: Path, tmp_path: Path, stored: bool
) -> None:
    results, place = tmp_path / "results", str(tmp_path / "nfs") if stored else None
    directory = results / "tiny"
    first = run_search(space, results=results, data=tiny_data, storage=place)
    home = Storage(f"{place}/tiny", directory.resolve()) if place else None
    before = {t.id: read_metrics(directory / "trials" / t.id) for t in first.trials}
    for trial in first.trials:
        assert there(directory, int(trial.id), home) == {"best.pt"}
        if home and first.best and trial.id != first.best.id:
            assert not list((directory / "trials" / trial.id).glob("*.pt"))
    assert (
        first.best is not None and first.best.checkpoint is not None and (directory / first.best.checkpoint).is_file()
    )
    more = run_search(space, results=results, data=tiny_data, storage=place, trials=8, resume=True)
    assert len(more.trials) == 8 and more.finished
    for trial in more.trials:
        assert there(directory, int(trial.id), home) == {"best.pt"}
        assert before.get(trial.id, trial) in (trial, read_metrics(directory / "trials" / trial.id))


@pytest.mark.slow
def test_a_finished_search_whose_study_and_metrics_are_lost_needs_no_checkpoint(
    ray_running: None, space: Space, tiny_data: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    directory = results / "tiny"
    first = run_search(space, results=results, data=tiny_data)
    for name in ("study.db", "study.backup.db", "summary.json"):
        (directory / name).unlink()
    (directory / "trials/000/metrics.jsonl").write_text('{"epoch"\n')
    run_search(space, results=results, data=tiny_data, resume=True)
    again = load_summary(directory)
    assert [(t.id, t.state, t.accuracy, t.epochs) for t in again.trials] == [
        (t.id, t.state, t.accuracy, t.epochs) for t in first.trials
    ]
    assert all(list((directory / "trials" / t.id).glob("*.pt")) for t in again.trials)

"""What the recorder makes of trials' folders: the same, whatever events came, were lost, or came twice."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import ray.cloudpickle
import ray.exceptions
import sqlalchemy.event
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from sqlalchemy.engine import Engine

from nmt.data.store.ready import ReadyData
from nmt.errors import UserError
from nmt.io.files import write_json
from nmt.training.history import read_metrics
from tune.driver.lines import Lines
from tune.driver.recorder import Recorder
from tune.driver.summarize import Records, summarize
from tune.driver.trial_folders import TrialFolders
from tune.driver.watchdog import Watchdog
from tune.jobs.protocol import FAILURE, INTERRUPTED
from tune.results.layout import trial_id
from tune.results.storage import Storage
from tune.results.summary import load_summary
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.database import study_url
from tune.study.sampler_view import standing
from tune.study.study import Job, SearchStudy

VALUES = [0.1, 0.2, 0.5, 0.4]


def metrics_lines(values: list[float]) -> list[str]:
    return [
        json.dumps(
            {
                "epoch": epoch,
                "val/accuracy": value,
                "val/accuracy_fixed_decode": value - 0.1,
                "decode/epsilon": 0.2,
                "seconds": 900.0 * epoch,
            }
        )
        + "\n"
        for epoch, value in enumerate(values, start=1)
    ]


def write_metrics(directory: Path, values: list[float], *, cut: bool = False) -> None:
    """As a training leaves them; with `cut`, the line of one more epoch is broken off."""
    directory.mkdir(parents=True, exist_ok=True)
    text = "".join(metrics_lines(values))
    (directory / "best.pt").write_bytes(b"")
    (directory / "metrics.jsonl").write_text(text + ('{"epoch": 9, "val/acc' if cut else ""))


class Noted(Lines):
    """Keeps what it prints."""

    def __init__(self, epochs: int, *, earlier_seconds: float) -> None:
        super().__init__(epochs, earlier_seconds=earlier_seconds)
        self.texts: list[str] = []

    def _print(self, number: int, text: str) -> str:
        self.texts.append(text)
        return super()._print(number, text)


class Search:
    """A search without Ray: its study, its recorder, and what it printed."""

    def __init__(self, directory: Path, space: Space, *, home: Storage | None = None, earlier: float = 0.0) -> None:
        self.directory, self.study = directory, SearchStudy(directory / "study.db", space)
        lines = Noted(self.study.ladder.epochs, earlier_seconds=earlier)
        self.lines = lines.texts
        self.recorder = Recorder(
            self.study,
            TrialFolders(directory, home),
            data=ReadyData(str(directory), str(directory), directory, "", has_test=False),
            lines=lines,
            control=None,
            health=Watchdog(space.search, stop=pytest.fail),
        )

    def begin(self, count: int = 1) -> list[Any]:
        """Jobs, as Ray Tune knows them."""
        jobs = [self.study.next_job() for _ in range(count)]
        trials = [
            SimpleNamespace(config=job.to_dict(), run_metadata=SimpleNamespace())
            for job in jobs
            if isinstance(job, Job)
        ]
        for trial in trials:
            self.recorder.health.on_trial_start(0, [], trial)
            self.recorder.on_trial_start(0, [], trial)
        return trials

    def train(self, number: int, epochs: int) -> None:
        write_metrics(self.directory / f"trials/{number:03d}", VALUES[:epochs])

    def event(self, trial: Any, **how: Any) -> None:
        """An event whose metric, which is for Ray's schedulers, is wrong, and whose epoch is behind the folder."""
        self.recorder.on_trial_result(
            0, [], trial, {"number": trial.config["number"], "epoch": 0, "val/accuracy": -1.0} | how
        )

    def ended(self, trial: Any) -> None:
        self.recorder.on_trial_complete(0, [], trial)

    def state(self) -> Any:
        """All that a search knows of its trials: in the study, in the summary and for the budget."""
        trials = [(t.state, t.values, t.intermediate_values, t.user_attrs, t.params) for t in self.study.trials()]
        summary = self.recorder.save()
        return trials, summary.trials, self.recorder._seconds


def test_epochs_trained_unheard_are_told_to_the_study_and_not_trained_again(space_file: Path, tmp_path: Path) -> None:
    space = load_space(space_file)
    Search(tmp_path, space).begin(2)
    write_metrics(tmp_path / "trials" / "000", VALUES)
    write_metrics(tmp_path / "trials" / "001", [0.3])
    search = Search(tmp_path, space)
    search.recorder.sync_unfinished()
    default, waiting = search.study.trials()
    assert default.state == TrialState.COMPLETE and default.value == 0.5
    assert waiting.state == TrialState.WAITING and waiting.intermediate_values == {1: 0.3}
    shown = search.recorder.save().trials
    assert [(t.id, t.state, t.epochs) for t in shown] == [("000", "COMPLETE", 4), ("001", "PRUNED", 1)]
    job = search.study.next_job()
    assert isinstance(job, Job) and (job.number, job.until) == (2, 1)


@pytest.mark.parametrize(("limit", "late"), [("hours = 1", True), ("hours = 3", False), ("gpu_hours = 0.9", True)])
def test_time_spent_by_earlier_runs_counts(space_file: Path, tmp_path: Path, limit: str, late: bool) -> None:
    space_file.write_text(
        space_file.read_text().replace("trials = 5", f"{limit}\n[resources]\ngpus = 0.5\nworkers = 2")
    )
    space = load_space(space_file)
    Search(tmp_path, space).study.next_job()
    write_metrics(tmp_path / "trials" / "000", VALUES)  # an hour
    assert Search(tmp_path, space, earlier=7200.0).recorder.out_of_time() is late


@pytest.fixture(scope="module")
def space(space_text: str, tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "tiny.toml"
    path.write_text(space_text)
    return load_space(path)


@pytest.fixture
def fresh() -> Iterator[Any]:
    """fresh(): an empty directory, a new one for each example of hypothesis."""
    with tempfile.TemporaryDirectory() as root:
        numbers = itertools.count()

        def make() -> Path:
            directory = Path(root) / str(next(numbers))
            directory.mkdir()
            return directory

        yield make


SHARED_FIXTURES = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED_FIXTURES
@given(epochs=st.integers(0, 4), known=st.integers(0, 4), cut=st.booleans())
def test_sync_twice_is_sync_once_and_needs_no_event_before(
    space: Space, fresh: Any, epochs: int, known: int, cut: bool
) -> None:
    """Of a folder that is ahead of the study, or whose last line is cut."""
    search = Search(fresh(), space)
    search.begin()
    if known <= epochs:
        search.train(0, known)
        search.recorder.sync(0)
    write_metrics(search.directory / "trials/000", VALUES[:epochs], cut=cut)
    assert len(search.recorder.sync(0)) == epochs
    once, printed = search.state(), list(search.lines)
    files = {p: p.read_bytes() for p in search.directory.rglob("*.session_end")}
    assert len(search.recorder.sync(0)) == epochs
    assert search.state() == once and search.lines == printed
    assert {p: p.read_bytes() for p in search.directory.rglob("*.session_end")} == files
    (trial,) = search.study.trials()
    assert trial.intermediate_values == dict(enumerate(VALUES[:epochs], start=1))
    assert trial.state == (TrialState.COMPLETE if epochs == 4 else TrialState.RUNNING)
    assert once[2] == {0: 900.0 * epochs} and len(files) == len(printed) == (epochs == 4)


@SHARED_FIXTURES
@given(heard=st.sets(st.integers(1, 4)), late=st.integers(0, 4), again=st.booleans())
def test_whatever_events_are_lost_or_repeated_the_search_ends_as_if_none_was(
    space: Space, fresh: Any, heard: set[int], late: int, again: bool
) -> None:
    """Of each epoch the event comes, or is lost; the folder may be ahead of an event by `late` epochs."""

    def run(heard: set[int], late: int, again: bool) -> Search:
        search = Search(fresh(), space)
        (default,) = search.begin()
        for epoch in range(1, 5):
            search.train(0, min(epoch + late, 4))
            for _ in range((epoch in heard) * (1 + again)):
                search.event(default)
        search.ended(default)
        (rival,) = search.begin()
        search.train(1, 1)
        if heard:
            search.event(rival)
        search.ended(rival)
        return search

    whole, other = run({1, 2, 3, 4}, 0, False), run(heard, late, again)
    assert other.state() == whole.state()
    assert len(other.lines) == len(whole.lines) == 2
    assert [t.state for t in other.study.trials()] == [TrialState.COMPLETE, TrialState.WAITING]


@pytest.mark.parametrize("order", list(itertools.permutations(["event", "ended", "sync"])))
def test_a_complete_trial_stays_complete_in_every_order(space: Space, tmp_path: Path, order: tuple[str, ...]) -> None:
    search = Search(tmp_path, space)
    (trial,) = search.begin()
    search.train(0, 4)
    do = {
        "event": lambda: search.event(trial),
        "ended": lambda: search.ended(trial),
        "sync": lambda: search.recorder.sync(0),
    }
    for name in order:
        do[name]()
    search.event(trial, **{FAILURE: "too late"})
    search.ended(trial)
    (found,) = search.study.trials()
    assert found.state == TrialState.COMPLETE and found.value == 0.5 and len(search.lines) == 1
    assert load_summary(tmp_path).trials[0].state == "COMPLETE"


@pytest.mark.parametrize(
    ("epochs", "how", "state", "line"),
    [
        (1, {}, TrialState.WAITING, "paused at 1 of 4 epochs  10.0 %"),
        (0, {}, TrialState.FAIL, "it reported no accuracy"),
        (1, {FAILURE: "the loss is no longer finite"}, TrialState.FAIL, "the loss is no longer finite"),
        (0, {INTERRUPTED: True}, TrialState.WAITING, None),
    ],
)
def test_how_a_job_ended_decides_of_a_trial_below_the_last_epoch(
    space: Space, tmp_path: Path, epochs: int, how: dict[str, Any], state: TrialState, line: str | None
) -> None:
    search = Search(tmp_path, space)
    trial = search.begin(2)[1]
    search.train(1, epochs)
    search.event(trial, **how)
    search.ended(trial)
    assert search.study.trial(1).state == state
    assert search.study.trial(1).intermediate_values == dict(enumerate(VALUES[:epochs], start=1))
    assert [line in found for found in search.lines] == ([True] if line else [])


def test_a_trial_that_a_scheduler_stopped_is_pruned(space: Space, tmp_path: Path) -> None:
    search = Search(tmp_path, space)
    (trial,) = search.begin()
    search.train(0, 2)
    search.event(trial)
    search.ended(trial)
    assert search.study.trial(0).state == TrialState.PRUNED and search.study.trial(0).value == 0.2


def test_a_trial_without_its_best_weights_is_not_complete_but_comes_again(space: Space, tmp_path: Path) -> None:
    Search(tmp_path, space).begin()
    write_metrics(tmp_path / "trials/000", VALUES)
    (tmp_path / "trials/000/best.pt").unlink()
    search = Search(tmp_path, space)
    search.recorder.sync_unfinished()
    (trial,) = search.begin()
    assert (trial.config["number"], trial.config["until"]) == (0, 4)
    search.event(trial, epoch=4)
    assert search.study.trial(0).state == TrialState.RUNNING
    (tmp_path / "trials/000/best.pt").write_bytes(b"")
    search.ended(trial)
    assert search.study.trial(0).state == TrialState.COMPLETE


def test_an_accuracy_that_is_not_finite_fails_the_trial(space: Space, tmp_path: Path) -> None:
    search = Search(tmp_path, space)
    (trial,) = search.begin()
    write_metrics(tmp_path / "trials/000", [math.nan] * 4)
    search.event(trial)
    search.ended(trial)
    assert search.study.trial(0).state == TrialState.FAIL


def error_of(trial: Any, directory: Path, error: Exception) -> None:
    """As Ray keeps the error that ended a job."""
    (directory / "error.txt").write_text("Traceback")
    (directory / "error.pkl").write_bytes(ray.cloudpickle.dumps(error))
    trial.error_file, trial.pickled_error_file = directory / "error.txt", directory / "error.pkl"


def test_an_epoch_whose_event_died_with_its_process_reaches_the_study_and_the_trial_comes_next(
    space: Space, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = Search(tmp_path, space)
    (trial,) = search.begin()
    search.train(0, 1)
    search.event(trial)
    search.train(0, 2)
    error_of(trial, tmp_path, ray.exceptions.RayActorError())
    search.recorder.on_trial_error(0, [], trial)
    assert search.study.trial(0).intermediate_values == {1: 0.1, 2: 0.2}
    assert (
        "000  its process died (killed, out of memory, or crashed); resuming from its checkpoint" in caplog.messages[-1]
    )
    (again,) = search.begin()
    assert (again.config["number"], again.config["until"]) == (0, 4)
    error_of(again, tmp_path, ray.exceptions.RayActorError())
    search.recorder.on_trial_error(0, [], again)
    assert search.study.trial(0).state == TrialState.WAITING and list(search.recorder.retries.waiting) == [0]
    assert (tmp_path / "trials/000/error.txt").read_text() == "Traceback"
    assert "000  its process died (killed, out of memory, or crashed); interrupted again" in caplog.messages[-1]
    (other,) = search.begin()
    assert other.config["number"] == 1  # the search goes on
    search.train(1, 1)
    search.event(other)
    search.ended(other)
    (default,) = search.begin()
    assert default.config["number"] == 0  # another job has ended well, so the machines work
    (resumed,) = Search(tmp_path, space).begin()
    assert resumed.config["number"] == 0


@pytest.mark.parametrize("packed", [False, True])
def test_an_error_that_would_come_again_fails_the_trial_at_once(space: Space, tmp_path: Path, packed: bool) -> None:
    search = Search(tmp_path, space)
    trials = search.begin(2)
    trial = trials[0]
    if packed:
        trial.config["pack"] = [t.config for t in trials]
    error_of(trial, tmp_path, ray.exceptions.RayTaskError("train", "Traceback", ValueError("a mistake")))
    search.recorder.on_trial_error(0, [], trial)
    for number in range(1 + packed):
        assert search.study.trial(number).state == TrialState.FAIL
        assert search.study.trial(number).user_attrs["reason"] == "ValueError: a mistake"


def test_a_process_that_died_before_its_job_began_is_not_counted(space: Space, tmp_path: Path) -> None:
    search = Search(tmp_path, space)
    for _ in range(3):
        job = search.study.next_job()
        assert isinstance(job, Job) and job.number == 0
        trial = SimpleNamespace(config=job.to_dict(), run_metadata=SimpleNamespace())
        error_of(trial, tmp_path, ray.exceptions.RayActorError())
        search.recorder.on_trial_error(0, [], trial)
    assert not search.recorder.retries.waiting


def test_a_job_that_ended_well_says_nothing_of_the_next_one_of_its_trial(space: Space, tmp_path: Path) -> None:
    search = Search(tmp_path, space)
    trial = search.begin(2)[1]
    search.train(1, 1)
    search.event(trial)
    search.ended(trial)
    for _ in range(3):  # the process that its promotion got had died while it was idle
        error_of(trial, tmp_path, ray.exceptions.RayActorError())
        search.recorder.on_trial_error(0, [], trial)
    assert not search.recorder.retries.waiting


def test_with_a_storage_the_folder_there_counts_and_the_one_here_is_left_to_its_process(
    space: Space, tmp_path: Path
) -> None:
    home = Storage(str(tmp_path / "home"), tmp_path / "here")
    (tmp_path / "here").mkdir()
    search = Search(tmp_path / "here", space, home=home)
    (trial,) = search.begin()
    search.train(0, 2)
    write_json(tmp_path / "here/trials/000/config.json", {})
    home.put("trials/000")
    search.train(0, 3)  # not put yet: an epoch that another node would not find
    search.event(trial)
    assert search.study.trial(0).intermediate_values == {1: 0.1, 2: 0.2}
    assert len((tmp_path / "here/trials/000/metrics.jsonl").read_text().splitlines()) == 3
    search.train(0, 4)
    home.put("trials/000")
    search.event(trial)
    assert search.study.trial(0).state == TrialState.COMPLETE
    assert load_summary(tmp_path / "here").trials[0].epochs == 4


def test_a_folder_that_is_behind_its_event_is_waited_for(space: Space, tmp_path: Path) -> None:
    search = Search(tmp_path, space)
    (trial,) = search.begin()
    search.train(0, 1)
    late = threading.Timer(0.5, search.train, [0, 2])
    late.start()
    search.event(trial, epoch=2)
    late.join()
    assert search.study.trial(0).intermediate_values.keys() == {1, 2}


def test_a_trial_whose_folder_stays_behind_is_resumed_and_not_judged(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.driver.trial_folders.LAG_SECONDS", 0.3)
    search = Search(tmp_path, space)
    (trial,) = search.begin()
    search.event(trial, epoch=4)
    search.ended(trial)
    assert search.study.trial(0).state == TrialState.WAITING
    job = search.study.next_job()
    assert isinstance(job, Job) and (job.number, job.until) == (0, 4)


def test_a_folder_of_another_configuration_is_never_reported(space_file: Path, tmp_path: Path) -> None:
    space = load_space(space_file)
    search = Search(tmp_path, space)
    trial, other = search.begin(2)
    search.train(1, 4)
    config = json.loads((tmp_path / "trials/001/config.json").read_text())
    assert config == other.config["configuration"] != trial.config["configuration"]  # written at the start
    write_json(tmp_path / "trials/001/config.json", config | {"optim": config["optim"] | {"lr": 0.0545}})
    told = rf"trials/001/config.json: trial 001 .*optim.lr is 0.0545 in it and {config['optim']['lr']} now"
    with pytest.raises(UserError, match=told) as caught:
        Search(tmp_path, space)
    assert "\n" not in str(caught.value) and "study.backup.db" in str(caught.value)
    write_json(tmp_path / "trials/001/config.json", config | {"train": config["train"] | {"micro_batch": 2}})
    Search(tmp_path, space)  # the same result with less memory
    write_json(tmp_path / "trials/002/config.json", config | {"optim": config["optim"] | {"lr": 0.0545}})
    with pytest.raises(
        UserError, match="trials/002/config.json: trial 002 of the study has another configuration"
    ) as caught:
        search.begin()
    assert search.recorder.folders.error is caught.value
    assert len(search.recorder.save().trials) == 0


def test_the_study_is_backed_up_at_each_begin_and_end(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.driver.saving.SECONDS", 0.0)
    search = Search(tmp_path, load_space(space_file))

    def kept() -> list[Any]:
        study = optuna.load_study(study_name="tiny", storage=study_url(tmp_path / "study.backup.db"))
        return [(t.state, t.params, t.value, t.user_attrs) for t in study.trials]

    def now() -> list[Any]:
        return [(t.state, t.params, t.value, t.user_attrs) for t in search.study.trials()]

    (trial,) = search.begin()
    assert kept() == now() and len(now()) == 1
    search.train(0, 4)
    search.event(trial)
    search.ended(trial)
    assert kept() == now() and now()[0][0] == TrialState.COMPLETE
    monkeypatch.setattr("tune.driver.saving.SECONDS", 600.0)
    (other,) = search.begin()
    assert len(kept()) == 1  # too early
    search.recorder.on_step_end(0, [])
    assert len(kept()) == 1
    monkeypatch.setattr("tune.driver.saving.SECONDS", 0.0)
    search.recorder.on_step_end(0, [])  # as Ray calls it, whether anything happens or not
    assert kept() == now() and len(now()) == 2 and other.config["number"] == 1


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["begin", "train", "end", "fail", "lose", "resume"]), st.integers(0, 99)), max_size=14
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
@example(actions=[("begin", 0), ("begin", 0), ("train", 1)])
def test_what_is_kept_in_memory_is_what_the_files_say(space: Space, fresh: Any, actions: list[tuple[str, int]]) -> None:
    """Whatever happens to the trials, also where a search is resumed in between."""
    directory = fresh()
    search, running = Search(directory, space), list[Any]()
    for action, choice in [*actions, ("resume", 0)]:
        trial = running[choice % len(running)] if running else None
        number = trial.config["number"] if trial else 0
        if action == "begin" and len(running) < 3:
            running += search.begin()
        elif action == "train" and trial:
            search.train(number, min(trial.config["until"], len(search.recorder.folders.history(number)) + 1))
            search.event(trial)
        elif action == "end" and trial:
            search.train(number, trial.config["until"])
            search.event(trial)
        elif action == "fail" and trial:
            search.event(trial, **{FAILURE: "diverged"})
        elif action == "lose" and trial:
            error_of(trial, directory, ray.exceptions.RayActorError())
            search.recorder.on_trial_error(0, [], trial)
        if action in ("end", "fail") and trial:
            search.ended(trial)
        if action in ("end", "fail", "lose") and trial:
            running.remove(trial)
        check_against_files(search)
        if action == "resume":
            before, left, running = search.recorder.save(), {trial_id(t.config["number"]) for t in running}, []
            search = Search(directory, space)
            after = [t.id for t in search.recorder.save().trials]
            assert [t.id for t in before.trials] == [t for t in after if t not in left]  # some reached their rung
            check_against_files(search)


def check_against_files(search: Search) -> None:
    """What the recorder and the study keep in memory must be what a first reading of the files gives."""
    study = search.study
    stored = optuna.load_study(study_name="tiny", storage=study_url(search.directory / "study.db")).get_trials()
    assert study.trials() == stored == [study.trial(number) for number in range(len(stored))]
    running, aside = ({s.number for s in study.standings() if getattr(s, name)} for name in ("running", "aside"))
    assert study.standings() == [standing(t, running=t.number in running, aside=t.number in aside) for t in stored]
    kept = search.recorder.save()
    data = ReadyData(str(search.directory), str(search.directory), search.directory, "", has_test=False)
    read = summarize(
        study, TrialFolders(search.directory, None), data=data, seconds=kept.seconds, finished=False, records=Records()
    )
    assert kept == read
    written = json.loads((search.directory / "summary.json").read_text()) | {"seconds": read.seconds}
    assert written == json.loads(json.dumps(read.to_dict()))


def test_a_trial_reads_and_asks_the_same_however_many_there_are(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space_file.write_text(space_file.read_text().replace("trials = 5", "trials = 40"))
    search = Search(tmp_path, load_space(space_file))
    monkeypatch.setattr("tune.driver.saving.SECONDS", 600.0)
    used = Counter[str]()

    def execute(connection: Any, cursor: Any, text: str, values: Any, *more: Any) -> None:
        used["statements"] += 1
        used["values"] += len(values)

    def read(directory: Path) -> list[dict[str, Any]]:
        used["histories"] += 1
        return read_metrics(directory)

    monkeypatch.setattr("tune.driver.summarize.read_metrics", read)
    monkeypatch.setattr("tune.driver.trial_folders.read_metrics", read)
    sqlalchemy.event.listen(Engine, "before_cursor_execute", execute)

    def one_trial() -> dict[str, int]:
        """What a new trial costs, up to its first rung; a promotion that is due comes before it."""
        while True:
            used.clear()
            (trial,) = search.begin()
            number, until = trial.config["number"], trial.config["until"]
            search.train(number, until)
            search.event(trial)
            search.ended(trial)
            if until == 1:
                return dict(used)

    (default,) = search.begin()
    search.train(0, 4)
    search.event(default)
    search.ended(default)
    try:
        costs = [one_trial() for _ in range(14)]
    finally:
        sqlalchemy.event.remove(Engine, "before_cursor_execute", execute)
    assert len(search.study.trials()) > 12 and costs[-1] == costs[0]


def test_a_study_that_is_lost_in_use_ends_the_search_in_one_line(space_file: Path, tmp_path: Path) -> None:
    search = Search(tmp_path, load_space(space_file))
    search.begin()
    (tmp_path / "study.db").unlink()
    with pytest.raises(UserError, match=r"study.db: .*--resume") as caught:
        search.recorder.save()
    assert search.recorder.folders.error is caught.value
    assert (tmp_path / "study.backup.db").is_file() and not (tmp_path / "study.db").exists()


def test_a_finished_trial_whose_folder_is_removed_keeps_its_place_in_the_table(space: Space, tmp_path: Path) -> None:
    first = Search(tmp_path, space)
    (trial,) = first.begin()
    first.train(0, 4)
    first.ended(trial)
    first.recorder.save()
    shutil.rmtree(tmp_path / "trials/000")
    search = Search(tmp_path, space)
    search.recorder.sync_unfinished()
    (record,) = search.recorder.save().trials
    assert (record.state, record.epochs, record.accuracy) == ("COMPLETE", 4, 0.5) and record.checkpoint is None
    assert search.begin()[0].config["number"] == 1


def test_the_lost_configuration_of_an_ended_trial_is_written_again(space: Space, tmp_path: Path) -> None:
    first = Search(tmp_path, space)
    (trial,) = first.begin()
    first.train(0, 4)
    first.ended(trial)
    config = tmp_path / "trials/000/config.json"
    before = config.read_text()
    config.unlink()
    Search(tmp_path, space)
    assert config.read_text() == before

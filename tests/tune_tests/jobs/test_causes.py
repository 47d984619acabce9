"""Which errors end a trial for good, and which only interrupt it."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest
import ray.exceptions
import torch

from nmt.config import Config
from nmt.errors import FailedError, TemporaryError, UserError
from nmt.io.files import write_json
from nmt.io.location import Location
from nmt.model.weights import hub_error
from nmt.training.out_of_memory import out_of_memory
from nmt.training.trainer import DivergedError
from tune.jobs.causes import DIED, cause_of, is_final, kind_of, of_the_storage


def raised_in_a_process(error: Exception) -> ray.exceptions.RayTaskError:
    """As Ray hands over what a job raised."""
    return ray.exceptions.RayTaskError("train", f"Traceback\n{error!r}", error)


MACHINE = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    ConnectionResetError("reset by peer"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
    TemporaryError("s3://bucket/x: cannot be written after 8 attempts"),
    hub_error("swinv2", "the hub cannot be reached"),
    out_of_memory(Config()),
    FailedError("best.pt: removed while the training ran"),
]
TRAINING = [
    DivergedError("the loss is no longer finite"),
    UserError("model.heads must divide model.d_model"),
    ValueError("an extension's mistake"),
    IndexError("index 7 is out of bounds"),
]


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_what_comes_from_the_machines_interrupts_a_trial(error: Exception) -> None:
    for seen in (error, raised_in_a_process(error)):
        cause = cause_of(seen)
        assert not cause.final and not cause.of_node and cause.reason and "\n" not in cause.reason


@pytest.mark.parametrize("error", TRAINING, ids=repr)
def test_what_the_training_raises_itself_ends_its_trial(error: Exception) -> None:
    cause = cause_of(raised_in_a_process(error))
    assert cause.final and str(error) in cause.reason


def test_a_mistake_in_another_process_is_not_one_of_the_training() -> None:
    assert not is_final(raised_in_a_process(KeyError("a trial unknown to a restarted actor")).as_instanceof_cause())


def test_reasons_of_one_kind_differ_in_paths_and_numbers_alone() -> None:
    one, other = (f"/r/trials/{n}/a.pt: cannot be written (No space, {n} MB left); free space" for n in (1, 2))
    assert kind_of(one) == kind_of(other) != kind_of("it hung: no report for 7 s (its epochs take 1 s)")
    assert kind_of("it hung: no report (1)") == kind_of("it hung: no report (2)")


def test_a_process_that_died_interrupts_and_a_node_that_was_taken_away_is_not_counted() -> None:
    assert cause_of(ray.exceptions.RayActorError()).reason == DIED
    assert not cause_of(ray.exceptions.RayActorError()).of_node
    assert cause_of(ray.exceptions.RayActorError(preempted=True)).of_node


def test_a_full_disk_and_a_storage_that_fails_are_temporary_where_they_are_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TemporaryError, match="No space left on device"):
        Location(str(tmp_path), attempts=1)._persistently(_full, "written", "x")
    with pytest.raises(TemporaryError, match="no storage"), of_the_storage():
        raise UserError("no storage")
    monkeypatch.setattr(os, "fsync", lambda number: _full())
    with pytest.raises(TemporaryError, match=r"x.json: cannot be written \(No space left on device\)") as caught:
        write_json(tmp_path / "x.json", {})
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), TemporaryError)


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

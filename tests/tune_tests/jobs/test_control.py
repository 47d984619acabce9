"""The control actor: as its methods alone, and as a real actor whose process dies."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import ray

from tune.driver import interruption as interruption_module
from tune.driver import ray_session as session
from tune.driver.interruption import Interruption
from tune.jobs import control as module
from tune.jobs.control import Asked, Control, ask, open_control


def test_an_epoch_waits_for_its_decision_and_a_stop_answers_it() -> None:
    async def meet() -> list[Any]:
        control = Control()
        await control.open("000", 1)
        waiting = asyncio.create_task(control.report("000", 1, {"epoch": 1}))
        assert (await control.next("000", 1, 0, False)).metrics == {"epoch": 1} and not waiting.done()
        following = asyncio.create_task(control.next("000", 1, 1, False))
        first = await waiting
        waiting = asyncio.create_task(control.report("000", 1, {"epoch": 2}))
        assert (await following).metrics == {"epoch": 2} and not waiting.done()
        await control.stop("000", 1)
        assert await control.stopped("000", 1)
        return [first, await waiting]

    assert asyncio.run(meet()) == [True, False]


def test_a_call_of_an_earlier_job_fails_and_its_end_does_not_end_the_next() -> None:
    async def meet() -> None:
        control = Control()
        await control.open("000", 1)
        waiting = asyncio.create_task(control.report("000", 1, {"epoch": 1}))
        await asyncio.sleep(0)
        await control.open("000", 2)
        assert await waiting is False
        for call in (control.report("000", 1, {"epoch": 1}), control.ended("000", 1), control.stopped("000", 1)):
            with pytest.raises(LookupError, match=r"job 1 of 000 was replaced by job 2"):
                await call
        following = asyncio.create_task(control.next("000", 2, 0, False))
        await asyncio.sleep(0.1)
        assert not following.done()
        await control.ended("000", 2)
        assert (await following).metrics is None

    asyncio.run(meet())


def test_an_actor_that_was_started_again_learns_from_each_call_what_it_needs() -> None:
    """Whatever call comes first, and however often: an epoch is neither lost, nor told twice, nor trained on by two."""

    async def meet() -> None:
        again = Control()
        worker = asyncio.create_task(again.report("000", 7, {"epoch": 3}))  # told before, or not
        await asyncio.sleep(0)
        assert (await again.next("000", 7, 2, False)).metrics == {"epoch": 3} and not worker.done()

        again = Control()
        waits = asyncio.create_task(again.next("000", 7, 3, False))  # the group has had epoch 3
        await asyncio.sleep(0)
        assert await again.report("000", 7, {"epoch": 3}) is True and not waits.done()
        worker = asyncio.create_task(again.report("000", 7, {"epoch": 4}))
        assert (await waits).metrics == {"epoch": 4}

        again = Control()
        worker = asyncio.create_task(again.report("000", 6, {"epoch": 3}))  # of a job that has been replaced
        await asyncio.sleep(0)
        stopping = asyncio.create_task(again.next("000", 7, 0, True))
        assert await worker is False and await again.stopped("000", 7)
        await again.ended("000", 7)
        assert (await stopping).metrics is None

    asyncio.run(meet())


def test_the_driver_hears_what_a_training_waits_for_and_tells_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)

    async def meet() -> None:
        control = Control()
        await control.waits("003", "waits for 2 workers")
        assert (await control.signs(900.0))["003"].waits == "waits for 2 workers"
        reply = await control.next("003", 1, 0, False)
        assert (reply.metrics, reply.begun, reply.first_seconds) == (None, False, 900.0)
        sign = (await control.signs(900.0))["003"]
        assert sign.waits is None and sign.ago < 60
        assert await control.stopped("003", 1) is False
        assert (await control.next("003", 1, 0, False)).begun
        await control.close("003")
        assert await control.signs(900.0) == {}
        await control.waits("004")
        monkeypatch.setattr(module, "SIGN_SECONDS", 0.0)  # of a training that has ended
        assert await control.signs(900.0) == {}

    asyncio.run(meet())


def processes(name: str) -> list[psutil.Process]:
    """This process's own, of that name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if name in " ".join(process.cmdline()):
                found.append(process)
    return found


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def control() -> Iterator[Any]:
    with session.ray_session(), open_control() as running:
        ray.get(running.stopping.remote())  # it has started
        yield running


@pytest.mark.slow
def test_a_control_whose_process_dies_stops_no_trial_and_hears_again_of_a_wish_to_stop(
    control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    asked, interruption = Asked(control), Interruption(control)
    assert not asked() and not interruption.stop_all()
    (process,) = processes("ray::Control")
    process.kill()
    for _ in range(3):
        assert not asked()
    interruption.stop("enough")
    deadline = time.monotonic() + 120
    while not asked():
        assert time.monotonic() < deadline
        assert interruption.stop_all() is False
        time.sleep(0.1)


@pytest.mark.slow
def test_a_frozen_control_holds_up_no_step_and_is_replaced_once_a_search_is_to_end(
    control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(interruption_module, "SILENT_SECONDS", 3.0)
    asked, interruption = Asked(control), Interruption(control)
    assert not asked()
    (process,) = processes("ray::Control")
    process.suspend()
    began = time.monotonic()
    assert not any(asked() for _ in range(100))
    assert time.monotonic() - began < 20, "every step waited for the actor"
    interruption.stop("enough")
    deadline = time.monotonic() + 120
    while not asked():
        assert time.monotonic() < deadline
        assert interruption.stop_all() is False
        time.sleep(0.1)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_call_of_a_control_that_dies_or_freezes_is_answered_by_the_next_process(
    control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(control, "stopping") is False
    (process,) = processes("ray::Control")
    told = threading.Timer(1.0, process.kill)  # while the call waits
    told.start()
    assert ask(control, "stopped", "000", 1) is False
    assert gone(process)
    (process,) = processes("ray::Control")
    process.suspend()
    assert ask(control, "stopping", seconds=2.0) is False
    assert gone(process)

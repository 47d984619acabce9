"""The control actor: as its methods alone, and as a real actor whose process dies."""

from __future__ import annotations

import asyncio
import contextlib
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
from tune.jobs.control import Asked, Control, open_control


def test_an_epoch_waits_for_its_decision_and_a_stop_answers_it() -> None:
    async def meet() -> list[Any]:
        control = Control()
        job = await control.open("000")
        waiting = asyncio.create_task(control.report("000", job, {"epoch": 1}))
        assert await control.next("000") == {"epoch": 1} and not waiting.done()
        await control.decide("000", True)
        first = await waiting
        waiting = asyncio.create_task(control.report("000", job, {"epoch": 2}))
        await control.next("000")
        await control.stop("000")
        await control.stopped("000", job)
        return [first, await waiting]

    assert asyncio.run(meet()) == [True, False]


def test_a_call_of_an_earlier_job_fails_and_its_end_does_not_end_the_next() -> None:
    async def meet() -> None:
        control = Control()
        earlier, later = await control.open("000"), await control.open("000")
        with pytest.raises(LookupError, match=f"job {earlier} of 000 was replaced by job {later}"):
            await control.report("000", earlier, {})
        await control.end("000", earlier)
        await control.end("000", later)
        assert await control.next("000") is None

    asyncio.run(meet())


def processes(name: str) -> list[psutil.Process]:
    """This process's own, of that name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if name in " ".join(process.cmdline()):
                found.append(process)
    return found


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

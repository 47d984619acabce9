from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nmt.training import spot
from nmt.training.signals import interruptions
from tests.metadata import Metadata, metadata_server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_is_noted_and_second_interrupts(number: signal.Signals) -> None:
    calls: list[bool] = []
    with interruptions(lambda: calls.append(True)) as came:
        assert not came()
        os.kill(os.getpid(), number)
        assert came() and calls == [True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert calls == [True]


def test_the_first_signal_may_interrupt_at_once_and_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), interruptions(interrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_signals_stay_with_whoever_has_them() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interruptions() as came:
            found.extend([signal.getsignal(signal.SIGINT) is before, came()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True, False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("then", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_interrupts(number: int, then: int) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with interruptions() as came:
        assert not came()
        os.kill(os.getpid(), number)
        assert came()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), then)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_handlers_are_given_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), interruptions():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_no_handler_is_touched() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interruptions() as came:
            found.append((came(), signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, True)]


@pytest.fixture
def taken_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """A spot machine with its notice."""
    monkeypatch.setattr(spot, "POLL_SECONDS", 0.05)
    with metadata_server() as metadata:
        for name, value in metadata.environment("aws").items():
            monkeypatch.setenv(name, value)
        metadata.give_notice()
        yield metadata


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_spot_notice_is_a_first_signal_and_a_second_one_ends_at_once(taken_away: Metadata) -> None:
    calls: list[threading.Thread] = []
    with interruptions(lambda: calls.append(threading.current_thread())) as came:
        wait_for(came)
        assert calls == [threading.main_thread()]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_spot_notice_wakes_a_main_thread_that_waits_and_may_interrupt_it(taken_away: Metadata) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), interruptions(interrupt):
        threading.Event().wait(120)


def test_a_spot_notice_after_ctrl_c_does_not_cut_the_saving_short(taken_away: Metadata) -> None:
    notice, taken_away.notice = taken_away.notice, None
    with interruptions() as came:
        os.kill(os.getpid(), signal.SIGINT)
        assert came()
        taken_away.notice = notice
        wait_for(lambda: not any(thread.name == "spot notice" for thread in threading.enumerate()))


def test_who_asks_for_no_notice_gets_none(taken_away: Metadata) -> None:
    with interruptions(notices=False) as came:
        assert not any(thread.name == "spot notice" for thread in threading.enumerate())
    assert not came() and taken_away.asked == []

from __future__ import annotations

import os
import signal
import threading

import pytest

from nmt.training.signals import interruptions


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

"""A wish to end a search reaches its trials."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from tune.driver import interruption as module
from tune.driver.interruption import Interruption


def test_a_signal_is_passed_on_to_the_trials_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(module.ray, "wait", lambda answers, **options: (answers, []))
    sent: list[str] = []

    def send() -> object:
        sent.append("stop")
        return object()

    wish = Interruption(SimpleNamespace(stop_all=SimpleNamespace(remote=send)))
    with wish.caught():
        assert wish.stop_all() is False and not sent
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish.came and wish.reason is None
        assert [wish.stop_all(), wish.stop_all()] == [False, False]
    assert sent == ["stop", "stop"] and wish("trial", {}) is False


def test_a_search_that_stops_itself_keeps_the_reason() -> None:
    wish = Interruption(None)
    wish.stop("the disk is full")
    assert wish.came and wish.reason == "the disk is full"

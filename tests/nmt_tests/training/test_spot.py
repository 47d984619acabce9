"""The spot notice, from a real server on loopback that plays the metadata service."""

from __future__ import annotations

import logging
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nmt.training import spot
from nmt.training.history import EpochResult, read_metrics
from nmt.training.loop import train
from nmt.training.spot import Aws, Listener, service, watched
from tests.metadata import Metadata, metadata_server
from tests.nmt_tests.toy_training import history, small
from tests.paths import ROOT


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    monkeypatch.setattr(spot, "POLL_SECONDS", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):  # a proxy would ask its own machine
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with metadata_server() as running:
        yield running


def on(machine: Metadata, monkeypatch: pytest.MonkeyPatch, cloud: str) -> None:
    for name, value in machine.environment(cloud).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("cloud", "words"),
    [("aws", "spot notice of AWS: terminate at 2026-11-28T20:30:00Z"), ("gcp", "spot notice of Google Cloud")],
)
def test_there_is_no_notice_until_the_cloud_gives_it(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch, cloud: str, words: str
) -> None:
    on(metadata, monkeypatch, cloud)
    asked = service()
    assert asked is not None and asked.notice() is None
    metadata.give_notice()
    assert asked.notice() == words


def test_an_unknown_form_of_aws_notice_is_a_notice(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    on(metadata, monkeypatch, "aws")
    metadata.notice = "stop"
    assert Aws().notice() == "spot notice of AWS"


def test_a_token_that_has_ended_is_renewed(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    on(metadata, monkeypatch, "aws")
    asked = Aws()
    assert asked.notice() is None
    metadata.token = "token-2"
    with pytest.raises(urllib.error.HTTPError):
        asked.notice()
    metadata.give_notice()
    assert asked.notice() is not None


@pytest.mark.parametrize(("value", "said"), [(None, 0), ("", 0), ("azure", 1)])
def test_elsewhere_nothing_is_asked(
    metadata: Metadata,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str | None,
    said: int,
) -> None:
    on(metadata, monkeypatch, "aws")
    metadata.give_notice()
    monkeypatch.delenv(spot.VARIABLE)
    if value is not None:
        monkeypatch.setenv(spot.VARIABLE, value)
    before = threading.active_count()
    with watched(lambda notice: pytest.fail(notice)):
        assert threading.active_count() == before
    assert metadata.asked == []
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["NMT_SPOT=azure is none of aws, gcp: no spot notice will be seen"] * said


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_service_that_does_not_answer_is_named_once_and_is_no_notice(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cloud: str
) -> None:
    on(metadata, monkeypatch, cloud)
    metadata.close()
    asked = service()
    assert asked is not None
    listener = Listener(asked)
    with caplog.at_level(logging.WARNING):
        assert listener.ask() is None and listener.ask() is None
    (record,) = caplog.records
    assert "does not answer" in record.getMessage()


def test_a_notice_after_the_block_reaches_nobody(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    on(metadata, monkeypatch, "gcp")
    heard: list[str] = []
    with watched(heard.append):
        pass
    metadata.give_notice()
    for thread in threading.enumerate():
        if thread.name == "spot notice":
            thread.join(10)
            assert not thread.is_alive()
    assert heard == []


def test_a_training_saves_at_its_step_and_resumes_there(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch, toy_data: Path, tmp_path: Path, trained: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """As it would at Ctrl-C; the resumed training equals one that was never interrupted."""
    on(metadata, monkeypatch, "aws")
    caplog.set_level(logging.INFO)

    def said() -> bool:
        return any("taken away (spot notice of AWS: terminate at" in record.getMessage() for record in caplog.records)

    def on_epoch(_: EpochResult) -> None:
        metadata.give_notice()
        deadline = time.monotonic() + 60
        while not said():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        train(small(), data=toy_data, directory=tmp_path, on_epoch=on_epoch)
    assert len(read_metrics(tmp_path)) == 1
    monkeypatch.delenv(spot.VARIABLE)
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert history(tmp_path) == history(trained)


@pytest.mark.parametrize(("file", "cloud"), [("gpu.yaml", "aws"), ("gpu-gcp.yaml", "gcp")])
def test_the_workers_of_a_cloud_cluster_read_the_notice_of_that_cloud(file: str, cloud: str) -> None:
    cluster = yaml.safe_load((ROOT / "cluster" / file).read_text())
    (start,) = (command for command in cluster["worker_start_ray_commands"] if "ray start" in command)
    assert f" {spot.VARIABLE}={cloud} " in start and cloud in spot.SERVICES

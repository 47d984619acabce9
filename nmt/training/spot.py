"""The notice that a cloud gives before it takes a spot machine away.

NMT_SPOT=aws or gcp says that this is such a machine. Without it nothing is asked. AWS gives its notice two minutes
before, Google Cloud half a minute. AWS's earlier "rebalance recommendation" is not read: most machines outlive it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

VARIABLE = "NMT_SPOT"
POLL_SECONDS = 5.0
"""time between two questions"""
ANSWER_SECONDS = 2.0
"""wait for an answer, which comes from the machine's own host"""
TOKEN_SECONDS = 21600
"""life of a token of AWS's metadata service, the longest that it gives"""

log = logging.getLogger(__name__)


class Service(Protocol):
    """The metadata service of a cloud."""

    seconds: float
    """time between its notice and the machine's end"""

    def notice(self) -> str | None:
        """Return the notice in words; None if there is none. Raises OSError or HTTPException without an answer."""
        ...


class Aws:
    """AWS's instance metadata service, version 2. Its address is botocore's AWS_EC2_METADATA_SERVICE_ENDPOINT."""

    seconds = 120.0

    def __init__(self) -> None:
        self._at = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
        self._token: str | None = None

    def notice(self) -> str | None:
        """Return the notice in words; see `Service`."""
        if self._token is None:
            life = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            self._token = _ask(f"{self._at}/latest/api/token", life, method="PUT")
        try:
            found = _ask(
                f"{self._at}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token or ""}
            )
        except urllib.error.HTTPError as error:
            if error.code == http.client.UNAUTHORIZED:  # the token has ended; the next question takes a new one
                self._token = None
            raise
        return None if found is None else _aws_words(found)


class Gcp:
    """Google Cloud's metadata server. Its address is that of Google's libraries, GCE_METADATA_HOST."""

    seconds = 30.0

    def __init__(self) -> None:
        self._at = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}"

    def notice(self) -> str | None:
        """Return the notice in words; see `Service`."""
        found = _ask(f"{self._at}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        return "spot notice of Google Cloud" if (found or "").strip().upper() == "TRUE" else None


SERVICES: Mapping[str, Callable[[], Service]] = {"aws": Aws, "gcp": Gcp}


def service() -> Service | None:
    """Return the metadata service of this machine; None if NMT_SPOT does not say that it is a spot machine."""
    name = os.environ.get(VARIABLE, "").strip().lower()
    if name and name not in SERVICES:
        log.warning("%s=%s is none of %s: no spot notice will be seen", VARIABLE, name, ", ".join(SERVICES))
    return SERVICES[name]() if name in SERVICES else None


class Listener:
    """Asks a metadata service, again and again. A service that does not answer is named once."""

    def __init__(self, asked: Service) -> None:
        self._asked, self._named = asked, False

    def ask(self) -> str | None:
        """Return the notice; None if there is none, or no answer."""
        try:
            return self._asked.notice()
        except (OSError, http.client.HTTPException) as error:
            if not self._named:
                log.warning("%s: the metadata service does not answer (%s)", VARIABLE, error)
            self._named = True
            return None


@contextlib.contextmanager
def watched(on_notice: Callable[[str], None]) -> Iterator[None]:
    """Call `on_notice` in a thread of its own if the notice for this machine comes during the block."""
    asked = service()
    if asked is None:
        yield
        return
    listener, ended = Listener(asked), threading.Event()
    calling = threading.Lock()

    def watch() -> None:
        while not ended.is_set():
            if notice := listener.ask():
                with calling:
                    if not ended.is_set():
                        on_notice(notice)
                return
            ended.wait(POLL_SECONDS)

    threading.Thread(target=watch, daemon=True, name="spot notice").start()
    try:
        yield
    finally:
        with calling:
            ended.set()


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""without a proxy: the service is on the machine's own host"""


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """Return the answer; None if there is nothing at the address."""
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with _OPENER.open(request, timeout=ANSWER_SECONDS) as answer:
            text: str = answer.read(4096).decode(errors="replace")
            return text
    except urllib.error.HTTPError as error:
        if error.code == http.client.NOT_FOUND:
            return None
        raise


def _aws_words(found: str) -> str:
    """Return AWS's notice in words: {"action": "terminate", "time": "2026-01-01T00:00:00Z"}."""
    try:
        content = json.loads(found)
        return f"spot notice of AWS: {content['action']} at {content['time']}"
    except (ValueError, KeyError, TypeError):  # the address exists only once there is a notice
        return "spot notice of AWS"

"""A server of the page with a small matcher, at a free port of this machine."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nmt.api import load_matcher
from nmt.inference.serve.app import Workbench
from nmt.inference.serve.server import Listener, listen, make_server


@dataclass
class Site:
    """A server that runs in a thread of this process."""

    listener: Listener
    workbench: Workbench

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.listener.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, content (parsed where it is JSON) and headers of an answer; `a_b` is the header a-b."""
        connection = http.client.HTTPConnection("127.0.0.1", self.listener.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            is_json = found.get("content-type") == "application/json"
            return response.status, json.loads(content) if is_json else content, found
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and content of what the page itself would send."""
        if not isinstance(body, bytes) and not hasattr(body, "__next__"):
            body = json.dumps(body).encode()
        sent = {"Content_Type": "application/octet-stream", "Origin": f"http://{self.host}", **headers}
        return self.ask("POST", path, body, **sent)[:2]

    def error(self, path: str, body: Any, status: int = 400, **headers: str) -> str:
        """The one line of a request that is refused."""
        found, answer = self.post(path, body, **headers)
        assert found == status and list(answer) == ["error"], answer
        line: str = answer["error"]
        assert line and "\n" not in line and "Traceback" not in line and len(line) <= 300
        return line


@pytest.fixture(scope="session")
def workbench(small_checkpoint: Path) -> Workbench:
    return Workbench(load_matcher(small_checkpoint, device="cpu"), name="small", examples=None)


@pytest.fixture(scope="session")
def serving():
    """Starts servers, and ends all of them: serving(workbench, token=None) is a Site."""
    running = []

    def start(workbench: Workbench, token: str | None = None) -> Site:
        listener = listen("127.0.0.1", 0, token=token)
        server = make_server(workbench, listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener.socket]}, daemon=True)
        thread.start()
        running.append((server, thread, listener))
        return Site(listener, workbench)

    yield start
    for server, thread, listener in running:
        server.should_exit = True
        thread.join(30)
        listener.socket.close()


@pytest.fixture(scope="session")
def site(workbench: Workbench, serving) -> Iterator[Site]:
    """The server of this machine alone."""
    found = serving(workbench)
    deadline = time.monotonic() + 60
    while found.ask("GET", "/api/info")[0] != 200:
        assert time.monotonic() < deadline
    return found


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The content of an image file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def encode():
    return encoded

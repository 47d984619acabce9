"""The metadata services of AWS and Google Cloud on loopback, as their documentation describes them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Metadata:
    """A server that has no notice until `notice` is set.

    AWS: a token is made by PUT, and every question needs it in a header. `spot/instance-action` is 404 before.
    Google Cloud: `instance/preempted` is FALSE before; a question without its header is refused.
    """

    TOKEN, ACTION = "/latest/api/token", "/latest/meta-data/spot/instance-action"
    PREEMPTED = "/computeMetadata/v1/instance/preempted"

    def __init__(self) -> None:
        self.notice: str | None = None
        self.token = "token-1"
        """the only one that is valid"""
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                life = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                if self.path != server.TOKEN or not 1 <= int(life or 0) <= 21600:
                    return self.answer(400)
                self.answer(200, server.token)

            def do_GET(self) -> None:
                server.asked.append(self.path)
                if self.path == server.ACTION:
                    if self.headers.get("X-aws-ec2-metadata-token") != server.token:
                        return self.answer(401)
                    return self.answer(200, server.notice) if server.notice else self.answer(404)
                if self.path == server.PREEMPTED:
                    if self.headers.get("Metadata-Flavor") != "Google":
                        return self.answer(403)
                    return self.answer(200, "TRUE" if server.notice else "FALSE")
                self.answer(404)

            def answer(self, code: int, text: str = "") -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def give_notice(self) -> None:
        """Announce the end of the machine, as AWS writes it."""
        self.notice = '{"action": "terminate", "time": "2026-11-28T20:30:00Z"}'

    def environment(self, cloud: str) -> dict[str, str]:
        """What a process of the machine has to have."""
        return {
            "NMT_SPOT": cloud,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{self.host}",
            "GCE_METADATA_HOST": self.host,
        }

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextlib.contextmanager
def metadata_server() -> Iterator[Metadata]:
    """A server, until the end of the block."""
    running = Metadata()
    try:
        yield running
    finally:
        running.close()

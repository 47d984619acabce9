"""Listen at an address, and serve the page there until Ctrl-C."""

from __future__ import annotations

import errno
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmt.errors import UserError

if TYPE_CHECKING:
    import uvicorn

    from nmt.inference.serve.app import Workbench

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
MIN_TOKEN = 16
"""characters of a token: nobody guesses so many"""


@dataclass(frozen=True)
class Listener:
    """A socket that accepts connections; those that come before the server runs wait."""

    socket: socket.socket
    host: str
    """as it was asked for"""
    token: str | None

    @property
    def port(self) -> int:
        """The port, also where any free one was asked for."""
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address of the page, without the token."""
        anywhere = self.host in ("0.0.0.0", "::")
        name = socket.gethostname() if anywhere else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/"

    @property
    def names(self) -> list[str]:
        """Host names that requests may ask for."""
        if self.token is None:
            return [*LOCAL_NAMES, self.host]  # check_token allows no other than loopback, such as 127.0.0.2
        return [*LOCAL_NAMES, self.host, socket.gethostname(), socket.getfqdn()]


def check_token(host: str, token: str | None) -> None:
    """Raise UserError for a token that is weak or cannot stand in an address, or for a host that lacks one."""
    example = secrets.token_urlsafe(MIN_TOKEN)
    if token is not None and not re.fullmatch(rf"[\w.~-]{{{MIN_TOKEN},200}}", token, re.ASCII):
        raise UserError(
            f"--token must be {MIN_TOKEN} to 200 letters, digits and -._~ that nobody guesses, such as {example}"
        )
    if token is None and not is_loopback(host):
        raise UserError(f"--host {host}: other machines reach the page there, so it needs --token, such as {example}")


def is_loopback(host: str) -> bool:
    """Return True for an address or a name that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int, *, token: str | None) -> Listener:
    """Listen at an address.

    Args:
        host: an address or a name of this machine.
        port: 0 takes any free one.
        token: the secret that requests must carry; None: none.

    Raises:
        UserError: the port is in use or not allowed, or the host is no address of this machine; or as `check_token`.
    """
    check_token(host, token)
    other = "choose another with --port N, or any free one with --port 0"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use; {other}") from error
        if error.errno == errno.EACCES:
            raise UserError(f"port {port} is for the system alone; {other}") from error
        raise UserError(f"--host {host}: no address of this machine ({error.strerror or error})") from error
    except UnicodeError as error:  # a name of 64 letters without a dot, or an empty label
        raise UserError(f"--host {host}: no name of a machine") from error
    return Listener(listening, host, token)


def make_server(workbench: Workbench, listener: Listener) -> uvicorn.Server:
    """Return the server; `run(sockets=[listener.socket])` serves until a signal or `should_exit`."""
    import uvicorn

    from nmt.inference.serve.app import make_app

    # Cookies do not know ports: each server of a machine needs a name of its own.
    app = make_app(workbench, names=listener.names, token=listener.token, cookie=f"nmt-token-{listener.port}")
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",  # the guard tells of errors; a line for each request would hold the token
            access_log=False,
            lifespan="off",
            http="h11",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )

"""Who may ask the server for what: the checks that come before any route.

A page on the open web can make a browser send requests to this machine, and can point a name of its own at 127.0.0.1
(DNS rebinding). So the Host header must name this server, and what changes anything must come from its own page.
With a token, every request carries it: in a header, or in the cookie that /?token=TOKEN sets once.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nmt.errors import one_line

_LOG = logging.getLogger("nmt.serve")
SIMPLE_TYPES = ("", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded")
"""content types that a form of any other site can send without asking first"""
LINGER = 2.0
"""seconds in which the rest of a refused upload is read and dropped, so that the answer arrives"""
WHOLE = "nmt.whole"
"""key of a scope: its request has arrived whole, or its client has gone"""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""headers of every answer"""


class Refusal(JSONResponse):
    """An error of one line as JSON, {"error": ...}, which also reaches a client that is still sending."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__({"error": message}, status_code=status, headers={"Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then read what still comes: closing at once would lose the answer on its way."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        try:
            async with asyncio.timeout(LINGER):
                while not scope.get(WHOLE):
                    await receive()
        except TimeoutError:
            pass  # the client has had its time
        await send({"type": "http.response.body", "body": b""})


class Guard:
    """Refuses requests that do not come from this server's own page, and adds its headers to every answer."""

    def __init__(self, app: ASGIApp, *, names: Collection[str] | None, token: str | None, cookie: str) -> None:
        """Prepare the checks.

        Args:
            app: what answers the requests that pass.
            names: host names that the server is asked by, without ports; with None every IP address is one too.
            token: the secret that requests must carry; None: none.
            cookie: name of the cookie that holds the token.
        """
        self._app, self._token, self._cookie = app, token, cookie
        self._names = {name.lower() for name in names or ()}
        self._addresses = token is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        try:
            answer = self._check(scope) or self._app
            await answer(scope, _noting_the_end(scope, receive), _with_headers(send))
        except Exception as error:
            _LOG.error("%s: %s: %s", scope["path"], type(error).__name__, one_line(error))
            raise

    def _check(self, scope: Scope) -> Response | None:
        """Return the refusal of a request, or the answer that sets the cookie; None lets it pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return Refusal(421, "this server goes by another name; open the address that it printed")
        if self._token is not None:
            given = QueryParams(scope["query_string"]).get("token")
            if given is not None and scope["path"] == "/" and scope["method"] == "GET" and self._fits(given):
                return self._welcome()
            if not self._has_token(headers):
                return Refusal(401, "this page needs its token: open it once as /?token=TOKEN")
        if scope["method"] not in ("GET", "HEAD"):
            return _check_origin(headers, host)
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._addresses  # rebinding takes a name; an address is the machine's own

    def _fits(self, given: str) -> bool:
        """Compare in constant time, so that answers do not tell how much of a guess is right."""
        assert self._token is not None
        return hmac.compare_digest(given.encode(errors="replace"), self._token.encode())

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._fits(given.strip())
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return found is not None and self._fits(found.value)

    def _welcome(self) -> Response:
        """Set the cookie, and lead to the page itself, so that the token leaves the address bar."""
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(self._cookie, self._token or "", httponly=True, samesite="lax")
        return response


def _check_origin(headers: Headers, host: str) -> Response | None:
    """Refuse what another site's page may have sent."""
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "same-origin")
    own = origin is None or (origin != "null" and urlsplit(origin).netloc.lower() == host.lower())
    if not own or site not in ("same-origin", "none"):
        return Refusal(403, "only this server's own page may send this")
    if headers.get("content-type", "").partition(";")[0].strip().lower() in SIMPLE_TYPES:
        return Refusal(415, "send application/json, or a file as application/octet-stream")
    return None


def _noting_the_end(scope: Scope, receive: Receive) -> Receive:
    """Return `receive` that sets WHOLE once nothing more of the request is to come."""

    async def receiving() -> Message:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            scope[WHOLE] = True
        return message

    return receiving


def _with_headers(send: Send) -> Send:
    """Return `send` that adds HEADERS to the answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending

"""The server of the page: its files, pictures, matches and keypoint files, as an ASGI application.

Built on Starlette, uvicorn and nothing else: both are small, kept by one team, and in the environment of Ray and MLflow
anyway. Points that are dragged over a picture are a matter of the browser, which no framework of Python widgets makes
easier. Files arrive as the bodies of requests, so no form has to be parsed.

Nothing that arrives is written to the disk or names a file on it. Errors are {"error": ONE LINE} with a status of 4xx.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nmt.errors import UserError, one_line
from nmt.inference.keypoint_files import parse_labelled
from nmt.inference.serve import bodies
from nmt.inference.serve.bodies import TooLargeError, TooSlowError, file_name, read_body
from nmt.inference.serve.examples import example_pairs
from nmt.inference.serve.guard import Guard, Refusal
from nmt.inference.serve.pictures import GoneError, Pictures
from nmt.unmatched import OFF

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from nmt.data.store.objects import ObjectStore
    from nmt.inference.image_matcher import ImageMatcher
    from nmt.inference.matches import Matches
    from nmt.inference.serve.bodies import MatchRequest

_LOG = logging.getLogger("nmt.serve")
T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

SCRIPTS = ("page", "panel", "points", "files", "server")
PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in SCRIPTS},
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""address -> file of this package, and its type; no other file is ever read"""
WAITING = 16
"""requests that wait for the matcher; more are refused"""
UPLOADS = 4
"""pictures that arrive at the same time, each held whole until it is decoded"""
UPLOAD_FOLDER = Path("upload")
"""what messages call the folder of a keypoint file that was sent; it is never looked into"""


class BusyError(UserError):
    """More work than the server takes on."""


STATUS: dict[type[UserError], int] = {GoneError: 404, TooSlowError: 408, TooLargeError: 413, BusyError: 503}
"""kind of error -> status; any other UserError is 400"""


class Workbench:
    """What all requests share: one matcher, whose calls are made one at a time, and the pictures."""

    def __init__(self, matcher: ImageMatcher, *, name: str, examples: ObjectStore | None) -> None:
        """Start without pictures.

        Args:
            matcher: the matcher. It is asked for every match from now on: the page hides those below its threshold.
            name: what the page calls it.
            examples: a data set to take example pairs of; None: there are none.
        """
        self.name, self.pictures = name, Pictures(matcher.config.data.image_size)
        self._matcher, self._examples = matcher, examples
        self._threshold = 0.0
        if matcher.calibration is not None:
            self._threshold = matcher.calibration.threshold
            matcher.calibration = matcher.calibration.with_threshold(OFF, source=name)
        self._matching, self._decoding = ThreadPoolExecutor(1, "match"), ThreadPoolExecutor(1, "decode")
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._waiting = 0

    async def _match_thread(self, work: Callable[[], T]) -> T:
        """Do work in the matcher's thread, after what waits for it already. Raises BusyError."""
        if self._waiting >= WAITING:
            raise BusyError("the server is busy; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._matching, work)
        finally:
            self._waiting -= 1

    async def info(self, request: Request) -> Response:
        """Say what is served, and the limits."""
        return JSONResponse(
            {
                "name": self.name,
                "calibrated": self._matcher.calibration is not None,
                "threshold": self._threshold,
                "keypointNames": {category: list(names) for category, names in self._matcher.keypoint_names.items()},
                "limits": {"bytes": bodies.MAX_UPLOAD, "points": bodies.MAX_POINTS},
                "examples": self._examples is not None,
            }
        )

    async def examples(self, request: Request) -> Response:
        """List example pairs, and hold their pictures."""
        store = self._examples
        if store is None:
            return JSONResponse({"pairs": []})
        config = self._matcher.config.data
        return JSONResponse({"pairs": await self._match_thread(lambda: example_pairs(store, config, self.pictures))})

    async def add_picture(self, request: Request) -> Response:
        """Take a picture, the body as it is in its file."""
        name = file_name(request, "the picture")
        async with self._uploads:
            content = await read_body(request, most=bodies.MAX_UPLOAD, what=name)
            loop = asyncio.get_running_loop()
            picture = await loop.run_in_executor(self._decoding, self.pictures.add, content, name)
        return JSONResponse(picture.describe())

    async def show_picture(self, request: Request) -> Response:
        """Send a picture as the page shows it."""
        jpeg = self.pictures.get(request.path_params["id"]).jpeg
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400, immutable"})

    async def read_keypoints(self, request: Request) -> Response:
        """Read a keypoint file, the body as it is in its file; ?image= names the picture."""
        name, image = file_name(request, "keypoints"), request.query_params.get("image") or "picture"
        content = await read_body(request, most=bodies.MAX_KEYPOINT_FILE, what=name)
        read = partial(parse_labelled, content, UPLOAD_FOLDER / name, image=Path(image))
        found = await asyncio.get_running_loop().run_in_executor(self._decoding, read)
        points = [{"name": n, "x": x, "y": y} for n, (x, y) in found.points.items()]
        return JSONResponse({"points": points, "category": found.category})

    async def match(self, request: Request) -> Response:
        """Match the points of two pictures."""
        body = await read_body(request, most=bodies.MAX_JSON, what="the request")
        asked = bodies.parse_match(body, self.pictures)
        return JSONResponse(await self._match_thread(lambda: self._matched(asked)))

    def _matched(self, asked: MatchRequest) -> dict[str, Any]:
        started = time.perf_counter()
        (picture0, picture1), (points0_N2, points1_M2) = asked.pictures, asked.points_N2
        matches = self._matcher.match(
            picture0.square_SS3, picture0.to_square(points0_N2), picture1.square_SS3, picture1.to_square(points1_M2)
        )
        seconds = round(time.perf_counter() - started, 3)
        return {"matches": _rows(matches), "seconds": seconds}


def _rows(matches: Matches) -> list[dict[str, float]]:
    columns = matches.indices[:, 0].tolist(), matches.indices[:, 1].tolist(), matches.confidence.tolist()
    return [{"source": i, "target": j, "confidence": round(c, 4)} for i, j, c in zip(*columns, strict=True)]


def make_app(workbench: Workbench, *, names: Collection[str], token: str | None, cookie: str) -> ASGIApp:
    """Return the application.

    Args:
        workbench: what answers.
        names: host names that it is asked by, without ports. With a token, any IP address is one too.
        token: the secret that requests must carry; None: none.
        cookie: name of the cookie that holds the token.
    """
    routes = [Route(path, _asset(*asset)) for path, asset in PAGE.items()]
    routes += [
        Route("/api/info", _answering(workbench.info)),
        Route("/api/examples", _answering(workbench.examples)),
        Route("/api/pictures", _answering(workbench.add_picture), methods=["POST"]),
        Route("/api/pictures/{id:str}", _answering(workbench.show_picture)),
        Route("/api/keypoints", _answering(workbench.read_keypoints), methods=["POST"]),
        Route("/api/match", _answering(workbench.match), methods=["POST"]),
    ]
    return Guard(
        Starlette(routes=routes, exception_handlers={HTTPException: _http_error}),
        names=names,
        token=token,
        cookie=cookie,
    )


def _asset(name: str, media_type: str) -> Endpoint:
    content = files(__package__).joinpath(name).read_bytes()

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return endpoint


def _answering(endpoint: Endpoint) -> Endpoint:
    """Make every error of an endpoint an answer of one line."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except UserError as error:
            return Refusal(STATUS.get(type(error), 400), one_line(error))
        except ClientDisconnect:
            return Refusal(400, "the request ended early")
        except Exception as error:  # a fault of ours: the page goes on, and the terminal has the reason
            _LOG.error("%s: %s: %s", request.url.path, type(error).__name__, one_line(error))
            return Refusal(500, "the server could not do this; its terminal says why")

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Refusal(error.status_code, {404: "there is no such address", 405: "not in this way"}[error.status_code])

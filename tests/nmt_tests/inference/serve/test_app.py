"""The server as strangers and broken clients meet it, over real connections."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from nmt import checkpoint
from nmt.api import load_matcher
from nmt.confidence import IN_CHECKPOINT, Calibration
from nmt.inference.load import KEYPOINT_NAMES
from nmt.inference.serve import app, bodies
from nmt.inference.serve.app import WAITING, Workbench

POINTS = [[12.0, 10.0], [90.0, 70.0], [50.0, 8.0], [20.0, 66.0], [61.0, 35.0]]


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(image: Image.Image | np.ndarray) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


def endless(size: int):
    """A body of unknown length."""
    for _ in range(size >> 16):
        yield bytes(1 << 16)


@pytest.fixture
def held(site, picture, encode) -> str:
    """The id of the picture on the server."""
    status, answer = site.post("/api/pictures?name=a.png", encode(picture))
    assert (status, answer["width"], answer["height"]) == (200, 100, 80)
    return answer["id"]


def test_the_page_and_what_it_reads_are_there_and_nothing_else_of_the_disk(site):
    for path in app.PAGE:
        status, content, headers = site.ask("GET", path)
        assert status == 200 and content and headers["content-type"] == app.PAGE[path][1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"http://" not in content.replace(b"http://www.w3.org/", b"") and b"https://" not in content
    for path in (
        "/app.py",
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "//etc/passwd",
        "/api/pictures/..%2f..%2fapp.py",
        "/api/pictures/%2fetc%2fpasswd",
        "/page.js/../app.py",
        "/static/page.js",
    ):
        status, answer, _ = site.ask("GET", path)
        assert status == 404 and list(answer) == ["error"], path
    assert site.ask("PUT", "/page.js", b"x", Content_Type="a/b")[:2] == (405, {"error": "not in this way"})


def test_a_picture_matches_itself_as_the_matcher_says(site, held, picture, small_checkpoint):
    turned = POINTS[::-1]
    body = {"source": {"picture": held, "points": POINTS}, "target": {"picture": held, "points": turned}}
    status, answer = site.post("/api/match", body, Content_Type="application/json")
    assert status == 200
    assert [(m["source"], m["target"]) for m in answer["matches"]] == [(k, 4 - k) for k in range(5)]
    expected = load_matcher(small_checkpoint, device="cpu").match(picture, POINTS, picture, turned)
    assert np.allclose([m["confidence"] for m in answer["matches"]], expected.confidence, atol=1e-3)


def test_an_image_is_upright_as_viewers_show_it(site, picture, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    status, answer = site.post("/api/pictures?name=a.jpg", encode(picture, "JPEG", exif=exif))
    assert (status, answer["width"], answer["height"]) == (200, 80, 100)
    status, content, headers = site.ask("GET", f"/api/pictures/{answer['id']}")
    assert status == 200 and headers["content-type"] == "image/jpeg" and content[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.jpg: not a readable image (it is an empty file"),
        (b"name,x,y\n", "a.jpg: not a readable image (its format is not known; convert it"),
        (b"<!doctype html><p>", "a.jpg: not a readable image (it is a web page"),
        (b"%PDF-1.4", "(it is a PDF document"),
        (b"PK\x03\x04" + bytes(99), "(it is a ZIP archive"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "not a readable image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "(an SVG drawing that cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is a drawing (EPS)"),
        (huge_png(20_000, 20_000), "a.jpg: 400 megapixels, but at most 64 are read"),
        (huge_png(10_000, 10_000), "a.jpg: 100 megapixels, but at most 64 are read"),
        (huge_png(2**31 - 1, 2**31 - 1), "megapixels, but at most 64 are read"),
        (huge_png(0, 5), "not a readable image"),
        (encoded(Image.new("RGB", (1, 1))), "a.jpg: 1 x 1 pixels, but at least 8 x 8 are needed to match"),
        (encoded(Image.new("RGB", (7, 900))), "a.jpg: 7 x 900 pixels, but at least 8 x 8"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_what_is_no_picture_is_one_line(site, content, message):
    assert message in site.error("/api/pictures?name=..%2F..%2Fa.jpg", content)


@pytest.mark.parametrize(("width", "height"), [(8, 8), (8, 5000), (5000, 8)])
def test_a_picture_of_any_proportions_is_matched(site, encode, width, height):
    status, answer = site.post("/api/pictures", encode(np.zeros((height, width, 3), np.uint8)))
    assert (status, answer["width"], answer["height"]) == (200, width, height)
    assert site.ask("GET", f"/api/pictures/{answer['id']}")[0] == 200
    side = {"picture": answer["id"], "points": [[0, 0], [width, height], [width, height]]}
    status, answer = site.post("/api/match", {"source": side, "target": side})
    assert status == 200 and all(np.isfinite(m["confidence"]) for m in answer["matches"])


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/api/pictures?name=a.png", bodies.MAX_UPLOAD),
        ("/api/keypoints", bodies.MAX_KEYPOINT_FILE),
        ("/api/match", bodies.MAX_JSON),
    ],
)
def test_a_body_of_too_many_bytes_is_refused_and_never_held(site, path, most, announced):
    if announced:
        assert "MB; send a smaller one" in site.error(path, endless(1 << 16), 413, Content_Length=str(1 << 30))
    else:
        assert "MB; send a smaller one" in site.error(path, endless(most + (1 << 20)), 413)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not readable JSON"),
        (b"{", "not readable JSON"),
        (b"\xff\xfe", "not readable JSON"),
        (b"[" * 100_000, "not readable JSON"),
        (b"9" * 5000, "not readable JSON"),
        (b"null", "source: expected"),
        (b"[]", "source: expected"),
        ({"source": 3}, "source: expected"),
        ({"source": {"picture": ["x"], "points": POINTS}}, "source: expected"),
    ],
    ids=str,
)
def test_a_request_that_is_no_request_is_one_line(site, body, message):
    assert message in site.error("/api/match", body)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (b"[[NaN, 1], [2, 3]]", "NaN"),
        (b"[[Infinity, 1], [2, 3]]", "Infinity"),
        (b"[[1e999, 1], [2, 3]]", "finite numbers"),
        (b"[[1" + b"0" * 400 + b", 1], [2, 3]]", "finite numbers"),
        (b'[["1", 1], [2, 3]]', "finite numbers"),
        (b"[[true, 1], [2, 3]]", "finite numbers"),
        (b"[[1], [2, 3]]", "finite numbers"),
        (b"[[1, 2, 3], [2, 3]]", "finite numbers"),
        (b'{"a": [1, 2], "b": [2, 3]}', "finite numbers"),
        (b"[]", "0 keypoints; a match takes 2 to 200"),
        (b"[[1, 2]]", "1 keypoints; a match takes 2 to 200"),
        (b"[" + b"[1, 2], " * 200 + b"[1, 2]]", "201 keypoints"),
        (b"[[1, 2], [100.5, 3]]", "(100.5, 3) lies outside the picture of 100 x 80 pixels"),
        (b"[[1, 2], [3, -0.5]]", "lies outside the picture"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_points_that_are_none_are_one_line(site, held, points, message):
    body = b'{"target": {"picture": "%s", "points": [[1, 2], [3, 4]]}, "source": {"picture": "%s", "points": %s}}'
    assert message in site.error("/api/match", body % (held.encode(), held.encode(), points))


def test_a_picture_that_is_not_held_is_404_so_that_the_page_sends_it_again(site):
    body = {"source": {"picture": "0" * 32, "points": POINTS}, "target": {"picture": "0" * 32, "points": POINTS}}
    assert site.error("/api/match", body, 404) == "this picture is no longer held; send it again"


def test_a_keypoint_file_is_read_as_match_reads_it(site):
    query = "/api/keypoints?name=points.csv&image=a.jpg"
    beak = [{"name": "beak", "x": 10.0, "y": 20.5}]
    for content in (
        "name,x,y\nbeak,10,20.5\n",
        "beak;10;20,5\n",
        '{"beak": [10, 20.5]}',
        "image,category,keypoint,x,y\nb.jpg,bird,beak,1,2\na.jpg,bird,beak,10,20.5\n",
    ):
        category = "bird" if "bird" in content else None
        for data in (content.encode(), content.encode("utf-16")):
            assert site.post(query, data) == (200, {"points": beak, "category": category})
    assert site.error(query, b"beak,10\n").startswith("upload/points.csv, line 1: expected lines name,x,y in pixels")
    assert "no keypoints of 'a.jpg'; it names 'b.jpg'" in site.error(
        query, b"image,category,keypoint,x,y\nb.jpg,bird,beak,1,2"
    )
    assert "PNG" in site.error("/api/keypoints?name=..%2F..%2F..%2Fetc%2Fpasswd", b"\x89PNG\r\n\x1a\n" + bytes(9))
    assert "not readable JSON" in site.error(query, b"[" * 100_000)


def test_a_slow_match_holds_up_neither_the_page_nor_pictures_and_a_queue_has_an_end(
    site, held, monkeypatch, picture, encode
):
    go, inside = threading.Event(), threading.Event()
    real = site.workbench._matcher.match
    running: list[int] = []

    def slow(*args):
        running.append(len(running))
        assert len(running) == 1, "two matches at once"
        inside.set()
        assert go.wait(60)
        running.clear()
        return real(*args)

    monkeypatch.setattr(site.workbench._matcher, "match", slow)
    body = {"source": {"picture": held, "points": POINTS}, "target": {"picture": held, "points": POINTS}}
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(site.post("/api/match", body)[0])) for _ in range(WAITING)
    ]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    assert site.ask("GET", "/")[0] == 200
    assert site.post("/api/pictures", encode(picture[::2]))[0] == 200
    deadline = time.monotonic() + 60
    while site.workbench._waiting < WAITING and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "the server is busy" in site.error("/api/match", body, 503)
    go.set()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * WAITING


def test_a_fault_of_the_server_is_one_line_for_the_page_and_one_for_the_terminal(site, held, monkeypatch, caplog):
    def fails(*args):
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(site.workbench._matcher, "match", fails)
    body = {"source": {"picture": held, "points": POINTS}, "target": {"picture": held, "points": POINTS}}
    assert site.error("/api/match", body, 500) == "the server could not do this; its terminal says why"
    assert [record.getMessage() for record in caplog.records] == ["/api/match: ZeroDivisionError: in the middle"]


def test_a_slow_or_broken_upload_ends(site, monkeypatch, workbench):
    import socket

    monkeypatch.setattr(bodies, "SECONDS", 0.2)
    head = (
        f"POST /api/pictures HTTP/1.1\r\nHost: {site.host}\r\nContent-Type: a/b\r\nContent-Length: 99\r\n\r\n".encode()
    )
    with socket.create_connection(("127.0.0.1", site.listener.port), timeout=60) as slow:
        slow.sendall(head + b"x")
        assert slow.recv(1 << 12).startswith(b"HTTP/1.1 408 ")
    for _ in range(app.UPLOADS + 1):
        with socket.create_connection(("127.0.0.1", site.listener.port), timeout=60) as gone:
            gone.sendall(head + b"x")
    assert "not a readable image" in site.error("/api/pictures", b"x")


def test_nothing_is_written(site, held, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = {"source": {"picture": held, "points": POINTS}, "target": {"picture": held, "points": POINTS}}
    assert site.post("/api/match", body)[0] == 200
    assert site.post("/api/keypoints?name=a.csv", b"a,1,2\nb,3,4\n")[0] == 200
    assert list(tmp_path.iterdir()) == []


def test_a_calibrated_matcher_gives_every_match_and_the_page_its_threshold(
    small_checkpoint, serving, picture, tmp_path
):
    content = checkpoint.load(small_checkpoint)
    del content["version"]
    calibration = Calibration((1.0, 0.0, 0.0, 0.0), 2.3, 0.9, "f1", {}, {}, ((0.0, 0.5), (0.7, 0.9)))
    checkpoint.save(
        tmp_path / "best.pt", {**content, IN_CHECKPOINT: calibration.to_dict(), KEYPOINT_NAMES: {"a": ["x"]}}
    )
    site = serving(Workbench(load_matcher(tmp_path, device="cpu"), name="calibrated", examples=None))
    info = site.ask("GET", "/api/info")[1]
    assert (info["calibrated"], info["threshold"], info["keypointNames"]) == (True, 0.9, {"a": ["x"]})
    side = {"picture": site.post("/api/pictures", encoded(picture))[1]["id"], "points": POINTS}
    matches = site.post("/api/match", {"source": side, "target": side})[1]["matches"]
    assert len(matches) == 5 and min(m["confidence"] for m in matches) < 0.9


def test_the_page_of_a_run_without_its_data_has_no_examples(site):
    assert site.ask("GET", "/api/examples")[1] == {"pairs": []}
    status, info, _ = site.ask("GET", "/api/info")
    assert (status, info["name"], info["examples"]) == (200, "small", False)
    assert isinstance(site.workbench, Workbench)

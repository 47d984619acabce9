"""The page in a browser: what a visitor does with two pictures, by mouse and by keyboard alone."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from nmt.data.readers.own.read import read
from nmt.inference.keypoint_files import read_labelled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.slow
WIDTH, HEIGHT = 400, 300
SPOTS = [(40, 50), (330, 60), (210, 140), (80, 250), (300, 240)]
"""points of the picture, far from each other and from its edges"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is absent (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, site) -> Iterator[Page]:
    """The page, which must log no error and ask no other server."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda m: complaints.append(m.text) if "Failed to load resource" not in m.text else None)
    opened.on(
        "request", lambda r: None if r.url.startswith((f"http://{site.host}/", "blob:")) else complaints.append(r.url)
    )
    # file dialogs are caught from the start: with a first listener at each press, the key may arrive before it
    opened.on("filechooser", lambda chooser: None)
    opened.goto(f"http://{site.host}/")
    yield opened
    assert not complaints
    context.close()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One photograph twice: upright as PNG, and as a camera held upright stores it, turned by its EXIF orientation."""
    folder = tmp_path_factory.mktemp("photographs")
    noise = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    upright = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    upright.save(folder / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "turned, by ö.jpg", exif=exif, quality=95)
    return folder / "upright.png", folder / "turned, by ö.jpg"


def open_picture(page: Page, side: str, *paths: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.click(f"#{side} .open")
    chooser.value.set_files([str(path) for path in paths])
    page.wait_for_selector(f"#{side} .frame:not([hidden])")


def on_screen(page: Page, side: str, x: float, y: float) -> tuple[float, float]:
    box = page.locator(f"#{side} .frame").bounding_box()
    assert box is not None
    return box["x"] + x / WIDTH * box["width"], box["y"] + y / HEIGHT * box["height"]


def click_spots(page: Page, side: str, spots: list[tuple[int, int]]) -> None:
    for spot in spots:
        page.mouse.click(*on_screen(page, side, *spot))


def rows(page: Page) -> list[list[str]]:
    """The table of matches: source, target."""
    return [re.sub(r" [✓✗]", "", row).split("\t")[:2] for row in page.locator("#rows tr").all_inner_texts()]


def wait_rows(page: Page, expected: list[list[str]]) -> None:
    for _ in range(300):
        if rows(page) == expected:
            return
        page.wait_for_timeout(100)
    assert rows(page) == expected


def names(page: Page, side: str) -> list[str]:
    return page.locator(f"#{side} .point span").all_text_contents()


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()


def place(page: Page, side: str, name: str) -> tuple[float, float]:
    """Where a keypoint is, as it is announced."""
    label = page.locator(f"#{side} .point", has=page.get_by_text(name, exact=True)).get_attribute("aria-label")
    found = re.search(r", x (\d+), y (\d+)", label or "")
    assert found is not None, label
    return float(found[1]), float(found[2])


def test_two_photographs_are_matched_edited_saved_and_loaded_again(page, photographs, tmp_path):
    upright, turned = photographs
    open_picture(page, "source", upright)
    open_picture(page, "target", turned)
    click_spots(page, "source", SPOTS)
    assert "Click two keypoints or more on both" in page.inner_text("#status")
    click_spots(page, "target", SPOTS[::-1])
    matched = [[str(k + 1), str(5 - k)] for k in range(5)]
    wait_rows(page, matched)
    assert page.locator("#lines line:not(.halo)").count() == 5

    # drag away and back again by undo, redo
    page.mouse.move(*on_screen(page, "source", *SPOTS[2]))
    page.mouse.down()
    page.mouse.move(*on_screen(page, "source", 230, 120), steps=3)
    page.mouse.up()
    assert np.allclose(place(page, "source", "3"), (230, 120), atol=2)
    page.click("#undo")
    assert np.allclose(place(page, "source", "3"), SPOTS[2], atol=2)
    page.keyboard.press("Control+Shift+z")
    assert np.allclose(place(page, "source", "3"), (230, 120), atol=2)
    page.keyboard.press("Control+z")
    wait_rows(page, matched)

    # delete by right-click, rename, and what a name may not be
    page.mouse.click(*on_screen(page, "target", *SPOTS[0]), button="right")
    assert names(page, "target") == ["1", "2", "3", "4"]
    page.keyboard.press("Control+z")
    wait_rows(page, matched)
    page.mouse.click(*on_screen(page, "source", *SPOTS[0]))
    page.fill("#name", "2")
    page.press("#name", "Enter")
    assert "names another keypoint" in page.inner_text("#error")
    page.mouse.click(*on_screen(page, "source", *SPOTS[0]))
    page.fill("#name", '  left  "eye", <b>')
    page.press("#name", "Tab")
    assert page.locator("#error").is_hidden() and names(page, "source")[0] == 'left "eye", <b>'

    # the threshold hides matches
    page.locator("#threshold").fill("1")
    assert page.locator("#lines line").count() == 0 and "without" in page.inner_text("#status")
    assert rows(page)[:5] == [[name, "none"] for name in names(page, "source")]
    assert rows(page)[5:] == [["none", name] for name in names(page, "target")]
    page.locator("#threshold").fill("0")

    # the saved table is what --match reads, also of the turned photograph; the page reads it too
    for side, picture, spots in (("source", upright, SPOTS), ("target", turned, SPOTS[::-1])):
        table = tmp_path / f"{side}.csv"
        table.write_bytes(saved(page, f"#{side} .save"))
        points = read_labelled(table, image=picture).points
        assert list(points)[1:] == ["2", "3", "4", "5"]
        assert np.allclose(list(points.values()), spots, atol=2)
        page.click(f"#{side} .clear")
        assert names(page, side) == []
        with page.expect_file_chooser() as chooser:
            page.click(f"#{side} .load")
        chooser.value.set_files(str(table))
        page.wait_for_selector(f"#{side} .point >> nth=4")
        assert names(page, side) == list(points)
    wait_rows(page, [['left "eye", <b>', "5"], *matched[1:]])


def test_the_saved_data_set_is_what_prepare_reads(page, photographs, tmp_path):
    upright, turned = photographs
    image = Image.open(upright)
    given = [upright, turned]
    for folder in ("a", "b"):  # two photographs of one name
        (tmp_path / folder).mkdir()
        given.append(tmp_path / folder / "p.png")
        image.rotate(180 if folder == "a" else 0).resize((200, 150)).save(given[-1])
    open_picture(page, "source", *given)
    page.wait_for_selector("#source .pictures option >> nth=3", state="attached")
    for k in range(4):
        page.select_option("#source .pictures", index=k)
        click_spots(page, "source", SPOTS[: 2 + k % 2])
        page.fill("#source .category", " odd,  shape ")
        page.press("#source .category", "Tab")
    zipfile.ZipFile(io.BytesIO(saved(page, "#save-all"))).extractall(tmp_path / "raw")
    files = {path.name: path.read_bytes() for path in (tmp_path / "raw/images").iterdir()}
    names = ["upright.png", "turned, by ö.jpg", "p.png", "p-2.png"]
    assert files == dict(zip(names, (path.read_bytes() for path in given), strict=True))
    entries = read(tmp_path / "raw", skip_bad=False).entries
    assert {entry.category for entry in entries} == {"odd, shape"}
    assert sorted((entry.photo, len(entry.points)) for entry in entries) == sorted(
        zip(names, (2, 3, 2, 3), strict=True)
    )
    assert all(
        np.allclose(
            entry.points["1"], np.array(SPOTS[0]) / (2 if "p-" in entry.photo or entry.photo == "p.png" else 1), atol=2
        )
        for entry in entries
    )
    assert "4 pictures saved" in page.inner_text("#status")


def test_what_is_no_picture_or_too_large_is_one_line_and_the_page_goes_on(page, photographs, tmp_path):
    (tmp_path / "notes.jpg").write_text("not a picture")
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(1 << 30)
    for name, message in (
        ("notes.jpg", "notes.jpg: not a readable image"),
        ("large.png", "large.png: more than 48 MB"),
    ):
        with page.expect_file_chooser() as chooser:
            page.click("#source .open")
        chooser.value.set_files(str(tmp_path / name))
        page.get_by_role("alert").filter(has_text=message).wait_for()
    (tmp_path / "points.csv").write_text("beak,10,20\ntail,5000,6\n")
    open_picture(page, "source", photographs[0])
    assert page.locator("#error").is_hidden()
    with page.expect_file_chooser() as chooser:
        page.click("#source .load")
    chooser.value.set_files(str(tmp_path / "points.csv"))
    page.get_by_role("alert").filter(
        has_text="points.csv: tail lies outside the picture of 400 x 300 pixels"
    ).wait_for()
    assert names(page, "source") == []


def test_pictures_are_dropped_and_pasted_and_one_that_the_server_forgot_is_sent_again(page, photographs, site):
    give = """([where, kind, bytes, name]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
        const options = {bubbles: true, cancelable: true};
        document.querySelector(where).dispatchEvent(kind === "drop"
            ? new DragEvent("drop", {...options, dataTransfer: data})
            : new ClipboardEvent("paste", {...options, clipboardData: data}));
    }"""
    content = list(photographs[0].read_bytes())
    page.evaluate(give, ["#target .view", "drop", content, "dropped.png"])
    page.wait_for_selector("#target .frame:not([hidden])")
    page.evaluate(give, ["body", "paste", content, "pasted.png"])
    page.wait_for_selector("#source .frame:not([hidden])")
    site.workbench.pictures._held.clear()
    click_spots(page, "source", SPOTS[:2])
    page.wait_for_selector("#lines line", state="attached")
    assert page.locator("#error").is_hidden()


def test_everything_is_done_by_keyboard_alone(page, photographs):
    upright, turned = photographs
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.className") != "open":
        page.keyboard.press("Tab")
    for picture in (upright, turned):
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(str(picture))
        side = "source" if picture is upright else "target"
        page.wait_for_selector(f"#{side} .frame:not([hidden])")
        while page.evaluate("document.activeElement.className") != "add":
            page.keyboard.press("Tab")
        for arrow in ("ArrowLeft", "ArrowDown"):
            page.keyboard.press("Enter")
            for _ in range(5):
                page.keyboard.press(f"Shift+{arrow}")
            page.keyboard.press(arrow)
            outline = page.evaluate("getComputedStyle(document.activeElement, '::before').boxShadow")
            assert "rgb(255, 210, 63)" in outline, "the focus is visible"
            if arrow == "ArrowLeft":
                while page.evaluate("document.activeElement.className") != "add":
                    page.keyboard.press("Tab")
        if picture is upright:
            while page.evaluate("document.activeElement.className") != "open":
                page.keyboard.press("Tab")
    assert place(page, "source", "1") == (149, 150) and place(page, "source", "2") == (200, 201)
    wait_rows(page, [["1", "1"], ["2", "2"]])

    # the focus is on the target's second keypoint: name it, delete it, take both back
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("2, x 200, y 201, matches 2, ")
    page.keyboard.press("F2")
    page.keyboard.type("nose")
    page.keyboard.press("Enter")
    assert names(page, "target") == ["1", "nose"]
    page.keyboard.press("Delete")
    assert names(page, "target") == ["1"]
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    wait_rows(page, [["1", "1"], ["2", "2"]])


def test_an_answer_that_comes_late_leaves_alone_what_is_being_typed(page, photographs):
    held: list[Route] = []
    page.route("**/api/match", lambda route: held.append(route))
    for side in ("source", "target"):
        open_picture(page, side, photographs[0])
        click_spots(page, side, SPOTS[:2])
    page.fill("#name", "unfinis")
    assert page.locator("#lines line").count() == 0 and len(held) == 1
    held[0].continue_()
    page.wait_for_selector("#lines line", state="attached")
    assert page.input_value("#name") == "unfinis" and names(page, "target") == ["1", "2"]


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_is_wider_than_the_page_and_all_has_a_name(page, photographs, width):
    page.set_viewport_size({"width": width, "height": 740})
    for side in ("source", "target"):
        open_picture(page, side, photographs[0])
        click_spots(page, side, SPOTS)
    page.wait_for_selector("#lines line", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, select, input:not([type=file])")].filter((e) =>
        !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"""
    )
    assert unnamed == []

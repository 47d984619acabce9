import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from nmt.config import DataConfig
from nmt.data.inspect_page import write_page

CONFIG = DataConfig(name="toy", mode="images", image_size=64, rotation=20.0, mirror=0.5)


class Elements(HTMLParser):
    """Counts what opens, and checks that it closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.opened.append(tag)
        values = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:image/jpeg;base64,")]
        self.images += [values["href"]] if tag == "image" else []


@pytest.fixture(scope="module")
def page(toy_store, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "toy-inspect.html"
    return write_page(toy_store.directory, CONFIG, path).read_text()


def test_the_page_needs_nothing_beside_it(page):
    found = Elements(page)
    assert not found.links and not {"script", "link", "img"} & set(found.opened)


def test_every_pair_shows_two_photographs_and_names_its_keypoints(page):
    cards = re.findall(r"<figure class=card>.*?</figure>", page)
    assert len(cards) == 12 + 5 + 6  # pairs, each augmentation alone, as trained
    for card in cards:
        num = int(re.search(r", (\d+) keypoints", card)[1])
        assert card.count("<image") == 2 and card.count("<g class=match>") == num
        assert card.count("<circle") == 2 * num and len(re.findall(r"<title>[cp]\d</title>", card)) == num


def test_objects_are_counted_by_split_and_category(page):
    assert re.findall(r"<title>(\d+ \w+)</title>", page)[:3] == ["40 train", "10 val", "10 test"]
    assert "<b>120</b><span>objects" in page


def test_names_of_a_data_set_cannot_run_in_the_page(make_store, toy_objects, tmp_path):
    objects = [dataclasses.replace(o, id=f"<script>{o.id}") for o in toy_objects()]
    plain = dataclasses.replace(CONFIG, erasing=0.0, cutmix=0.0, mixup=0.0, rotation=0.0, mirror=0.0)
    page = write_page(make_store(objects).directory, plain, tmp_path / "page.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "None: every probability is 0" in page


def test_images_that_are_all_alike_are_shown_as_they_are(make_store, toy_objects, tmp_path):
    grey = np.full((64, 64, 3), 90, np.uint8)
    alike = [dataclasses.replace(o, image=grey) for o in toy_objects()]
    every = dataclasses.replace(CONFIG, erasing=0.5, cutmix=0.5, mixup=0.5, scale=0.2)
    page = write_page(make_store(alike).directory, every, tmp_path / "page.html").read_text()
    assert "cutmix alone: no image changes" in page and "mixup alone: no image changes" in page
    assert page.count("<figure class=card>") == 12 + 6 + 6


def test_the_smallest_data_set_has_a_page(make_store, toy_objects, tmp_path):
    chairs = [o for o in toy_objects() if o.category == "chair"]
    both = [dict.fromkeys(("c0", "c1"), (1.0, 2.0))] * 4
    few = [*[o for o in chairs if o.split == "train"][:2], *[o for o in chairs if o.split == "val"][:2]]
    store = make_store([dataclasses.replace(o, points=points) for o, points in zip(few, both, strict=True)])
    page = write_page(store.directory, CONFIG, tmp_path / "page.html").read_text()
    assert "<b>4</b><span>objects" in page and page.count(", 2 keypoints") >= 12


def test_a_union_shows_what_has_no_partner_as_one_point(toy_store, tmp_path):
    plain = dataclasses.replace(CONFIG, pairs="union", erasing=0.0, cutmix=0.0, mixup=0.0, rotation=0.0, mirror=0.0)
    page = write_page(toy_store.directory, plain, tmp_path / "page.html").read_text()
    cards = re.findall(r"<figure class=card>.*?</figure>", page)
    points = [(card.count("<g class=match>"), card.count("<line class=link"), card.count("<circle")) for card in cards]
    assert len(cards) == 12 and all(dots == shown + linked for shown, linked, dots in points)
    assert any(linked < shown for shown, linked, _ in points) and all(linked >= 2 for _, linked, _ in points)

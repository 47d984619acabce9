import dataclasses
import re
from html.parser import HTMLParser

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

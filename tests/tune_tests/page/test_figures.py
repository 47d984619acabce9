"""Plots: SVG within the page, PNG beside it, the same at each report."""

from __future__ import annotations

import pytest

from nmt.errors import UserError
from tests.tune_tests.page.made_searches import Page
from tune.page.figures import Gallery, rung_colours


def line(figure) -> None:
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], label="<b> $x$ -->")
    axes.legend()


def test_a_plot_is_an_element_with_text_and_a_png_file(gallery):
    plot = gallery.draw("line", "a <line>", line, height=2.0, width=3.0)
    page = Page(plot.picture)
    assert page.tags[0] == "svg" and page.loads == [] and "<b> $x$ -->" in page.text
    assert "xmlns" not in plot.picture and "http" not in plot.picture and "max-width:300px" in plot.picture
    assert (gallery.folder / "line.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_plot_is_the_same_bytes(gallery):
    first, again = (gallery.draw("line", "", line, height=2.0) for _ in range(2))
    assert first.picture == again.picture


def test_a_plot_that_would_be_big_is_an_image(gallery):
    plot = gallery.draw("many", 'a "note"', lambda f: f.add_subplot().scatter(range(9000), range(9000)), height=2.0)
    page = Page(plot.picture)
    assert page.tags == ["img"] and page.loads == [] and len(plot.picture) < 100_000


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "plots").write_text("")
    with pytest.raises(UserError, match=r"line\.png: cannot be written"):
        Gallery(tmp_path / "plots").draw("line", "", line, height=2.0)


def test_rungs_are_darker_the_higher_they_are():
    brightness = [sum(colour[:3]) for colour in rung_colours([1, 3, 9, 27]).values()]
    assert brightness == sorted(brightness, reverse=True) and len(rung_colours([9])) == 1
